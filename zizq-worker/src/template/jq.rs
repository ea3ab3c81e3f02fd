//! jq expressions over a job. The only user of jaq.

use std::fmt;

use jaq_core::data::JustLut;
use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Filter, Vars, unwrap_valr};
use jaq_json::Val;

/// The most outputs that one placeholder may have.
const MAX_OUTPUTS: usize = 10_000;

/// A compiled expression. It comes from whoever configures the worker, never from a job.
pub(super) struct Expression {
    source: String,
    filter: Filter<JustLut<Val>>,
}

/// A job, as expressions see it.
#[derive(Debug)]
pub(crate) struct Input(Val);

impl Input {
    /// Reads the JSON of a job.
    pub(super) fn read(json: &[u8]) -> Result<Self, String> {
        jaq_json::read::parse_single(json).map(Self).map_err(|e| e.to_string())
    }
}

impl Expression {
    pub(super) fn compile(source: &str) -> Result<Self, String> {
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let arena = Arena::default();
        let bad = |what: String| format!("`{}` is no jq expression: {what}", source.trim());
        let modules = Loader::new(defs)
            .load(&arena, File { code: source, path: () })
            .map_err(|_| bad("it does not follow the syntax".to_owned()))?;
        let filter = Compiler::default().with_funs(funs).compile(modules).map_err(|errors| {
            let unknown = errors.into_iter().flat_map(|(_, errors)| errors).map(|(name, _)| name);
            bad(format!("there is no {}", unknown.collect::<Vec<_>>().join(", ")))
        })?;
        Ok(Self { source: source.trim().to_owned(), filter })
    }

    /// Every output as text: strings as they are, anything else as JSON.
    pub(super) fn outputs(&self, input: &Input) -> Result<Vec<String>, String> {
        let ctx = Ctx::<JustLut<Val>>::new(&self.filter.lut, Vars::new([]));
        let mut texts = Vec::new();
        for output in self.filter.id.run((ctx, input.0.clone())).map(unwrap_valr) {
            let text = match output.map_err(|e| format!("{{{{ {} }}}} fails: {e}", self.source))? {
                Val::TStr(text) => String::from_utf8_lossy(&text).into_owned(),
                Val::Null => {
                    return Err(format!(
                        "{{{{ {0} }}}} gives null; `{0} // \"...\"` would give a default",
                        self.source
                    ));
                }
                other => other.to_string(),
            };
            texts.push(text);
            if texts.len() > MAX_OUTPUTS {
                return Err(format!("{{{{ {} }}}} has more than {MAX_OUTPUTS} outputs", self.source));
            }
        }
        Ok(texts)
    }

    /// The one output that it must have.
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

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}
