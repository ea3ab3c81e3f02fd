//! The library of functions that are written in jq, parsed once.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::ast::Definition;
use super::lower::{Code, Lowering};
use super::parse::parse_definitions;

static DEFINITIONS: LazyLock<Vec<Definition>> =
    LazyLock::new(|| parse_definitions(include_str!("library.jq")).expect("it is tested"));

/// What each of them becomes.
static CODES: LazyLock<Vec<Code>> = LazyLock::new(|| {
    let lower = |definition| Lowering::of_library().run_definition(definition).expect("it is tested");
    DEFINITIONS.iter().map(lower).collect()
});

/// The number of a function.
pub(super) fn number(name: &str, arity: usize) -> Option<usize> {
    DEFINITIONS.iter().position(|known| known.name == name && known.params.len() == arity)
}

/// The text of these functions, and of all that they need.
pub(super) fn text(needs: &BTreeSet<usize>) -> String {
    let mut all = needs.clone();
    // What a function needs comes before it.
    for number in (0..CODES.len()).rev() {
        if all.contains(&number) {
            all.extend(CODES.get(number).iter().flat_map(|code| &code.needs));
        }
    }
    all.iter()
        .filter_map(|number| CODES.get(*number))
        .map(|code| code.text.as_str())
        .collect::<Vec<_>>()
        .join("\n")
}
