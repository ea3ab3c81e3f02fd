//! jq expressions over a job.

use std::fmt;
use std::time::Duration;

use protocol::jq::{Program, Value};
use protocol::media::Format;

use super::MEMBERS;
use crate::clock;

/// The maximum number of outputs of one placeholder.
const MAX_OUTPUTS: usize = 10_000;

/// A compiled expression. It comes from the configuration of the worker, never from a job.
pub(super) struct Expression {
    source: String,
    program: Program,
}

/// A job as expressions see it, and their `now`.
#[derive(Debug)]
pub(crate) struct Input {
    job: Value,
    now: f64,
}

impl Input {
    /// Reads the JSON of a job.
    pub(super) fn read(json: &[u8]) -> Result<Self, String> {
        let job = Value::read(Format::Json, json).ok_or("the job cannot be read, or nests too deeply")?;
        let now = Duration::from_millis(clock::now_ms()).as_secs_f64();
        Ok(Self { job, now })
    }
}

impl Expression {
    pub(super) fn compile(source: &str) -> Result<Self, String> {
        let source = source.trim();
        let program = Program::compile(source, &[]).map_err(|why| format!("{{{{ {source} }}}}: {why}"))?;
        let mut named = program.members().named.iter();
        match named.find(|name| !MEMBERS.contains(&name.as_str())) {
            Some(name) => Err(no_member(source, name)),
            None => Ok(Self { source: source.to_owned(), program }),
        }
    }

    /// Every output as text: strings as they are, anything else as JSON.
    pub(super) fn outputs(&self, input: &Input) -> Result<Vec<String>, String> {
        let mut texts = Vec::new();
        for output in self.program.run(input.job.clone(), [], input.now) {
            let output = output.map_err(|e| format!("{{{{ {} }}}} fails: {e}", self.source))?;
            if output == Value::default() {
                return Err(format!(
                    "{{{{ {0} }}}} gives null; `{0} // \"...\"` gives a default",
                    self.source
                ));
            }
            texts.push(output.to_string());
            if texts.len() > MAX_OUTPUTS {
                return Err(format!("{{{{ {} }}}} has more than {MAX_OUTPUTS} outputs", self.source));
            }
        }
        Ok(texts)
    }

    /// The output, which must be exactly one.
    pub(super) fn output(&self, input: &Input) -> Result<String, String> {
        let mut outputs = self.outputs(input)?;
        match (outputs.pop(), outputs.len()) {
            (Some(one), 0) => Ok(one),
            (last, rest) => Err(format!(
                "{{{{ {} }}}} has {} outputs where one is needed",
                self.source,
                rest + usize::from(last.is_some())
            )),
        }
    }
}

/// The message about a member that no job has: most likely one of the payload, or a misspelled one.
fn no_member(source: &str, name: &str) -> String {
    let lower = name.to_lowercase();
    let distance = |known: &&&str| strsim::damerau_levenshtein(known, &lower);
    let near = MEMBERS.iter().filter(|known| distance(known) <= known.len() / 4);
    let near = near.min_by_key(distance);
    let meant = near.map_or_else(|| format!(".payload.{name}"), |known| format!(".{known}"));
    format!(
        "{{{{ {source} }}}}: a job has no member `{name}`; did you mean `{meant}`? (A job has {}.)",
        MEMBERS.join(", ")
    )
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}
