//! The tables: medians over the rounds, with the ratio to ours and the share of the limit.

use crate::contender::Contender;
use crate::figures::Figures;
use crate::point::Point;
use crate::servers::{CLIENTS, Table};

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
pub(crate) fn print(name: &str, table: &Table) {
    let ours = |place: usize| {
        let row = table.rows.iter().find(|row| row.contender == Contender::Ours);
        row.and_then(|row| row.points.get(place)).map_or(0.0, |point| point.per_second.median())
    };
    for (place, clients) in CLIENTS.into_iter().enumerate() {
        println!(
            "\n{:28} {:>22} {:>8} {:>8} {:>9} {:>9} {:>8} {:>8}",
            format!("{name}, {clients} client{}", if clients == 1 { "" } else { "s" }),
            "requests/s (min–max)",
            "of limit",
            "ours is",
            "p50 ms",
            "p99 ms",
            "CPU ms",
            "clients'",
        );
        let mut limit = 0.0;
        for bare in &table.bare {
            let Some(point) = bare.points.get(place) else { continue };
            // The first one is of the model that everybody runs.
            limit = if limit == 0.0 { point.per_second.median() } else { limit };
            let share = 100.0 * point.per_second.median() / limit;
            println!(
                "{:28} {:>22} {share:>6.0} % {:>8} {:>9} {:>9} {:>8.2}",
                bare.name,
                rate(point),
                "",
                "",
                "",
                point.cost.median()
            );
        }
        for row in &table.rows {
            let Some(point) = row.points.get(place) else { continue };
            let per_second = point.per_second.median();
            println!(
                "{:28} {:>22} {:>6.0} % {:>7.2}x {:>9} {:>9} {:>8.2} {:>8.3}",
                row.contender.name(),
                rate(point),
                100.0 * per_second / limit,
                ours(place) / per_second,
                milliseconds(&point.p50),
                milliseconds(&point.p99),
                point.cost.median(),
                point.own_cost.median(),
            );
        }
    }
    println!(
        "\n{:28} {:>22} {:>16} {:>16} {:>26}",
        name, "exec → answer, s", "peak RSS, MiB", "PSS, MiB", "entities as model-runtime's"
    );
    for row in &table.rows {
        let start = format!("{:.2} ({:.2}–{:.2})", row.start.median(), row.start.least(), row.start.most());
        println!(
            "{:28} {start:>22} {:>16} {:>16} {:>26}",
            row.contender.name(),
            row.peak.median(),
            row.pss.median(),
            format!("{} of {}", row.same, row.all)
        );
    }
}

fn rate(point: &Point) -> String {
    let figures = &point.per_second;
    format!("{:.0} ({:.0}–{:.0})", figures.median(), figures.least(), figures.most())
}

fn milliseconds(figures: &Figures) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let value = figures.median() as f64 / 1e6;
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}
