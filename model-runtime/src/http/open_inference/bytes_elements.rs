//! The binary form of BYTES: each element after its length, a number of 4 bytes, little-endian.

use bytes::{Buf as _, Bytes};

/// Exactly `count` elements, which share the bytes.
///
/// # Errors
/// There are fewer bytes than the lengths say, or more.
pub(super) fn read(bytes: &Bytes, count: usize) -> Result<Vec<Bytes>, String> {
    let mut rest = bytes.clone();
    // Four bytes each at least: the shape alone reserves no memory.
    let mut elements = Vec::with_capacity(count.min(bytes.len() / 4));
    for index in 0..count {
        let broken = |what: &str| {
            format!("{what} of BYTES element {index} of {count} goes beyond the end of the data")
        };
        let length = rest.try_get_u32_le().map_err(|_| broken("the length"))?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > rest.len() {
            return Err(broken("the text"));
        }
        elements.push(rest.split_to(length));
    }
    if rest.is_empty() {
        Ok(elements)
    } else {
        Err(format!(
            "{} bytes are left over after the {count} BYTES elements that the shape says",
            rest.len()
        ))
    }
}

/// The elements one behind the other.
///
/// # Errors
/// One is longer than 4 bytes can say.
pub(super) fn write(elements: &[Bytes]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(elements.iter().map(|element| element.len() + 4).sum());
    for element in elements {
        let length =
            u32::try_from(element.len()).map_err(|_| "a BYTES element is longer than 4 GiB".to_owned())?;
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(element);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_again(elements in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..9)) {
            let elements: Vec<Bytes> = elements.into_iter().map(Bytes::from).collect();
            let bytes = Bytes::from(write(&elements).unwrap());
            prop_assert_eq!(read(&bytes, elements.len()), Ok(elements.clone()));
            prop_assert!(read(&bytes, elements.len() + 1).is_err());
            prop_assert!(elements.is_empty() || read(&bytes, elements.len() - 1).is_err());
        }

        #[test]
        fn whatever_is_read_writes_the_same_bytes(bytes in prop::collection::vec(0_u8..4, 0..40), count in 0_usize..5) {
            let bytes = Bytes::from(bytes);
            if let Ok(elements) = read(&bytes, count) {
                prop_assert_eq!(write(&elements).unwrap(), bytes);
            }
        }
    }

    #[test]
    fn lengths_beyond_the_end_are_refused_without_reserving_memory() {
        let error = |bytes: &'static [u8], count| read(&Bytes::from_static(bytes), count).unwrap_err();
        assert!(error(&[255, 255, 255, 255, 1], 1).contains("the text of BYTES element 0"));
        assert!(error(&[1, 0, 0], 1).contains("the length"));
        assert!(error(&[], usize::MAX).contains("element 0"));
        assert!(error(&[0, 0, 0, 0, 7], 1).contains("1 bytes are left over"));
    }
}
