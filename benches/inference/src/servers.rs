//! All servers on one model, turn by turn, with 1, 8, 32 and 64 clients; and the bare model beside them.

use std::path::Path;

use crate::answers::{self, Entity};
use crate::contender::{ALL, Contender};
use crate::figures::Figures;
use crate::limit::Limit;
use crate::load;
use crate::plan::Plan;
use crate::point::Point;
use crate::server::Server;
use crate::texts;

pub(crate) const CLIENTS: [usize; 4] = [1, 8, 32, 64];

/// The same model in bf16, where the exporter was asked for it and the CPU has instructions for it.
const HALF: &str = "model.bf16.pt";

/// What is known of a server.
pub(crate) struct Row {
    pub(crate) contender: Contender,
    pub(crate) points: [Point; CLIENTS.len()],
    /// Seconds.
    pub(crate) start: Figures<f64>,
    /// MiB.
    pub(crate) peak: Figures,
    pub(crate) pss: Figures,
    /// Answers with the entities that our fp32 model finds, and all answers.
    pub(crate) same: usize,
    pub(crate) all: usize,
}

/// The limit, with one precision.
pub(crate) struct Bare {
    pub(crate) name: &'static str,
    program: Limit,
    pub(crate) points: [Point; CLIENTS.len()],
}

/// Everything about one model.
pub(crate) struct Table {
    pub(crate) bare: Vec<Bare>,
    pub(crate) rows: Vec<Row>,
}

/// Measures so many rounds.
pub(crate) fn measure(plan: &Plan, model: &Path) -> anyhow::Result<Table> {
    let texts = texts::all();
    let file = tempfile::NamedTempFile::new()?;
    serde_json::to_writer(&file, &texts)?;
    let mut table = Table { bare: Vec::new(), rows: Vec::new() };
    let has_half = model.join(HALF).is_file() && cpu_computes_bf16();
    for (name, module) in [("the bare model", "model.pt"), ("the bare model, bf16", HALF)] {
        if module == HALF && !has_half {
            continue;
        }
        let program = Limit::start(plan, model, module, file.path())?;
        table.bare.push(Bare { name, program, points: Default::default() });
    }
    for contender in ALL {
        let wanted = contender == Contender::Ours || plan.wants(contender.name());
        if wanted && (has_half || contender != Contender::OursHalf) {
            let (start, peak, pss) = (Figures::default(), Figures::default(), Figures::default());
            table.rows.push(Row { contender, points: Default::default(), start, peak, pss, same: 0, all: 0 });
        }
    }
    let expected = Server::start(Contender::Ours, plan, model, &texts, &[])?.answers()?;
    for _ in 0..plan.rounds {
        table.round(plan, model, &texts, &expected)?;
    }
    Ok(table)
}

/// Without these instructions libtorch computes bf16 several times slower than fp32, which nobody would use.
fn cpu_computes_bf16() -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    flags.split_whitespace().any(|flag| matches!(flag, "avx512_bf16" | "amx_bf16"))
}

impl Table {
    fn round(
        &mut self,
        plan: &Plan,
        model: &Path,
        texts: &[String],
        expected: &[Vec<Entity>],
    ) -> anyhow::Result<()> {
        let mut servers = Vec::new();
        for row in &mut self.rows {
            let server = Server::start(row.contender, plan, model, texts, &[])?;
            row.start.add(server.start.as_secs_f64());
            server.halt()?;
            servers.push((row, server));
        }
        // Turn by turn, so that the machine's moods meet all alike.
        for (place, clients) in CLIENTS.into_iter().enumerate() {
            for Bare { program, points, .. } in &mut self.bare {
                let Some(point) = points.get_mut(place) else { continue };
                let bare = program.turn()?;
                point.per_second.add(bare.per_second);
                point.cost.add(bare.cost);
            }
            for (row, server) in &mut servers {
                let Some(point) = row.points.get_mut(place) else { continue };
                server.go_on()?;
                let turn = load::turn(server.target(), clients, plan.turn, || server.cpu_seconds())?;
                server.halt()?;
                let compared = answers::compare(&turn.answers, expected)?;
                // Half the precision may cost an entity, and is told; everyone else has to find them all.
                if let (Some(difference), false) =
                    (&compared.first_difference, row.contender == Contender::OursHalf)
                {
                    anyhow::bail!("{} answers wrongly: {difference}", row.contender.name());
                }
                row.same += compared.same;
                row.all += turn.answers.len();
                point.add(&turn);
            }
        }
        for (row, server) in &mut servers {
            let (peak, pss) = server.memory()?;
            row.peak.add(peak);
            row.pss.add(pss);
        }
        Ok(())
    }
}
