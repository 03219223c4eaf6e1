//! Two rows of small panels as an SVG: throughput above, the slowest hundredth below, one column for each setting.

use std::fmt::Write as _;

/// What is drawn of one setting.
pub(crate) struct Panel {
    pub(crate) title: &'static str,
    /// The values, as they are written.
    pub(crate) ticks: Vec<String>,
    /// Which of them is the default.
    pub(crate) default: Option<usize>,
    /// Whether neighbours are joined by a line.
    pub(crate) ordered: bool,
    /// For each series and value: requests/s and p99, in percent of the default's.
    pub(crate) series: Vec<Vec<(f64, f64)>>,
}

const WIDTH: f64 = 230.0;
const HEIGHT: f64 = 170.0;
/// Room for the scale on the left, the legend and titles on top, between the rows, and below.
const LEFT: f64 = 62.0;
const TOP: f64 = 72.0;
const BETWEEN: f64 = 78.0;
const GAP: f64 = 22.0;
const BOTTOM: f64 = 32.0;
/// Told apart by people who do not see all colours, too (Okabe and Ito).
const COLOURS: [&str; 3] = ["#0072b2", "#d55e00", "#009e73"];

/// A row of panels: which number it shows, and on what scale.
struct Scale {
    title: &'static str,
    of: fn(&(f64, f64)) -> f64,
    low: f64,
    high: f64,
    marks: Vec<f64>,
    logarithmic: bool,
}

impl Scale {
    fn throughput(panels: &[Panel]) -> Self {
        let high = greatest(panels, |point| point.0) * 1.08;
        let step = [5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]
            .into_iter()
            .find(|step| high / step <= 6.0)
            .unwrap_or(high);
        let marks = (0..=6).map(|mark| f64::from(mark) * step).filter(|mark| *mark <= high).collect();
        Self {
            title: "requests/s, % of the default's",
            of: |point| point.0,
            low: 0.0,
            high,
            marks,
            logarithmic: false,
        }
    }

    fn slowest(panels: &[Panel]) -> Self {
        let of: fn(&(f64, f64)) -> f64 = |point| point.1;
        let all = || panels.iter().flat_map(|panel| panel.series.iter().flatten()).map(of);
        let low = all().fold(f64::INFINITY, f64::min).max(0.01) / 1.3;
        let high = greatest(panels, of) * 1.3;
        let marks = (-2..5).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
        let marks = marks.filter(|mark| (low..=high).contains(mark)).collect();
        Self { title: "p99, % of the default's (logarithmic)", of, low, high, marks, logarithmic: true }
    }

    /// How far up a value is, in pixels from the bottom of a panel.
    fn height(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        HEIGHT * share
    }
}

fn greatest(panels: &[Panel], of: impl Fn(&(f64, f64)) -> f64) -> f64 {
    panels.iter().flat_map(|panel| panel.series.iter().flatten()).map(of).fold(1.0, f64::max)
}

/// The picture; `names` are those of the series.
pub(crate) fn draw(panels: &[Panel], names: &[String]) -> String {
    let (width, height) = (LEFT + float(panels.len()) * (WIDTH + GAP), TOP + 2.0 * HEIGHT + BETWEEN + BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (place, (name, colour)) in names.iter().zip(COLOURS).enumerate() {
        let x = LEFT + float(place) * 250.0;
        push(
            &mut svg,
            format_args!(
                "<circle cx=\"{x}\" cy=\"18\" r=\"4\" fill=\"{colour}\"/><text x=\"{}\" y=\"22\" font-size=\"12\">{name}</text>",
                x + 9.0
            ),
        );
    }
    let x = LEFT + float(names.len()) * 250.0;
    push(
        &mut svg,
        format_args!(
            "<rect x=\"{}\" y=\"11\" width=\"14\" height=\"14\" fill=\"#ececec\"/><text x=\"{}\" y=\"22\" font-size=\"12\">the default</text>",
            x - 4.0,
            x + 15.0
        ),
    );
    for (row, scale) in [Scale::throughput(panels), Scale::slowest(panels)].iter().enumerate() {
        let top = TOP + float(row) * (HEIGHT + BETWEEN);
        push(
            &mut svg,
            format_args!(
                "<text x=\"{}\" y=\"{}\" font-size=\"12\" font-weight=\"bold\">{}</text>",
                LEFT - 40.0,
                top - 26.0,
                scale.title
            ),
        );
        for (column, panel) in panels.iter().enumerate() {
            let left = LEFT + float(column) * (WIDTH + GAP);
            frame(&mut svg, panel, scale, left, top, column == 0);
            for (points, colour) in panel.series.iter().zip(COLOURS) {
                series(&mut svg, panel, scale, points, colour, left, top);
            }
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn frame(svg: &mut String, panel: &Panel, scale: &Scale, left: f64, top: f64, with_scale: bool) {
    let bottom = top + HEIGHT;
    push(
        svg,
        format_args!(
            "<text x=\"{left}\" y=\"{}\" font-family=\"monospace\">{}</text>",
            top - 8.0,
            panel.title
        ),
    );
    if let Some(default) = panel.default {
        let x = left + across(panel, default);
        push(
            svg,
            format_args!(
                "<rect x=\"{:.1}\" y=\"{top}\" width=\"24\" height=\"{HEIGHT}\" fill=\"#ececec\"/>",
                x - 12.0
            ),
        );
    }
    for mark in &scale.marks {
        let y = bottom - scale.height(*mark);
        push(
            svg,
            format_args!("<path d=\"M{left} {y:.1}h{WIDTH}\" stroke=\"#d0d0d0\" stroke-width=\"0.6\"/>"),
        );
        if with_scale {
            push(
                svg,
                format_args!(
                    "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{mark}</text>",
                    left - 6.0,
                    y + 4.0
                ),
            );
        }
    }
    for (place, tick) in panel.ticks.iter().enumerate() {
        let x = left + across(panel, place);
        push(
            svg,
            format_args!("<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>", bottom + 16.0),
        );
    }
    push(
        svg,
        format_args!(
            "<path d=\"M{left} {top}V{bottom}H{}\" fill=\"none\" stroke=\"#606060\"/>",
            left + WIDTH
        ),
    );
}

fn series(
    svg: &mut String,
    panel: &Panel,
    scale: &Scale,
    points: &[(f64, f64)],
    colour: &str,
    left: f64,
    top: f64,
) {
    let places: Vec<(f64, f64)> = points
        .iter()
        .enumerate()
        .map(|(place, point)| (left + across(panel, place), top + HEIGHT - scale.height((scale.of)(point))))
        .collect();
    if panel.ordered {
        let line: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        push(
            svg,
            format_args!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>",
                line.join(" ")
            ),
        );
    }
    for (x, y) in places {
        push(svg, format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.2\" fill=\"{colour}\"/>"));
    }
}

/// Where a value is drawn: all are equally far from each other.
fn across(panel: &Panel, place: usize) -> f64 {
    WIDTH * (float(place) + 0.5) / float(panel.ticks.len().max(1))
}

#[expect(clippy::cast_precision_loss, reason = "a handful of things to draw")]
fn float(number: usize) -> f64 {
    number as f64
}

fn push(svg: &mut String, element: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _written = writeln!(svg, "{element}");
}
