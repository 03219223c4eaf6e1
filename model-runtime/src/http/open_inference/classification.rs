//! Triton's extension "classification": of each row the highest values, as strings `value:index` or `value:index:label`.

use super::super::error::ApiError;
use super::tensor::{Content, Tensor};
use crate::backend::{Array, Datatype};

/// The `count` highest values of each row of a tensor, highest first; of a tensor with one dimension it is all one row, else the first
/// dimension is the batch. The labels are added where there is one for each value of a row.
///
/// # Errors
/// The tensor does not hold numbers of 32 or 64 bits with a fraction.
pub(super) fn classify(tensor: &Tensor, count: usize, labels: &[String]) -> Result<Tensor, ApiError> {
    let refused = |problem: &str| {
        ApiError::Unusable(format!("output `{}` cannot be classified: {problem}", tensor.name))
    };
    let Content::Numbers(array) = &tensor.content else {
        return Err(refused("it holds texts"));
    };
    let values = scores(array).ok_or_else(|| refused("it must be of FP32 or FP64"))?;
    let rows = match array.shape() {
        [] | [_] => 1,
        [batch, ..] => *batch,
    };
    let width =
        values.len().checked_div(rows).filter(|width| *width > 0).ok_or_else(|| refused("it is empty"))?;
    let labels = if array.shape().len() == 2 && labels.len() == width { labels } else { &[] };
    let count = count.min(width);
    let mut strings = Vec::with_capacity(rows * count);
    for row in values.chunks_exact(width) {
        let mut ranked: Vec<(usize, f64)> = row.iter().copied().enumerate().collect();
        ranked.sort_by(|one, other| other.1.total_cmp(&one.1));
        strings.extend(ranked.into_iter().take(count).map(|(index, value)| match labels.get(index) {
            Some(label) => format!("{value:.6}:{index}:{label}"),
            None => format!("{value:.6}:{index}"),
        }));
    }
    let shape = if array.shape().len() < 2 { vec![count] } else { vec![rows, count] };
    let elements = strings.into_iter().map(Into::into).collect();
    Ok(Tensor { name: tensor.name.clone(), content: Content::Strings { shape, elements } })
}

fn scores(array: &Array) -> Option<Vec<f64>> {
    let bytes = array.bytes().as_ref();
    match array.datatype() {
        Datatype::Fp32 => {
            Some(bytes.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect())
        }
        Datatype::Fp64 => Some(bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
        let array = Array::from_f32(shape.to_vec(), values).unwrap();
        Tensor { name: "y".to_owned(), content: Content::Numbers(array) }
    }

    fn strings(tensor: &Tensor) -> (Vec<usize>, Vec<String>) {
        let Content::Strings { shape, elements } = &tensor.content else {
            unreachable!("classes are strings")
        };
        (shape.clone(), elements.iter().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()).collect())
    }

    #[test]
    fn the_highest_of_each_row_come_first_with_their_labels() {
        let labels = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let two = classify(&tensor(&[2, 3], &[0.5, 2.0, -1.0, 3.0, 1.0, 2.5]), 2, &labels).unwrap();
        let expected = ["2.000000:1:b", "0.500000:0:a", "3.000000:0:a", "2.500000:2:c"];
        assert_eq!(strings(&two), (vec![2, 2], expected.map(str::to_owned).to_vec()));
        let one = classify(&tensor(&[2], &[1.0, 2.0]), 9, &[]).unwrap();
        assert_eq!(strings(&one), (vec![2], vec!["2.000000:1".to_owned(), "1.000000:0".to_owned()]));
        let of_tokens = classify(&tensor(&[1, 2, 3], &[0.0, 0.0, 0.0, 0.0, 5.0, 0.0]), 1, &labels).unwrap();
        assert_eq!(strings(&of_tokens), (vec![1, 1], vec!["5.000000:4".to_owned()]));
    }

    #[test]
    fn what_has_no_order_is_refused() {
        let texts = Tensor { name: "t".to_owned(), content: Content::strings(["a"]) };
        assert!(classify(&texts, 1, &[]).unwrap_err().to_string().contains("`t`"));
        assert!(classify(&tensor(&[2, 0], &[]), 1, &[]).unwrap_err().to_string().contains("empty"));
        assert!(classify(&tensor(&[0, 2], &[]), 1, &[]).is_err());
    }
}
