//! Budgets: named pools of tokens that limit how many jobs run at a time, or how often they are delivered.

use serde::{Deserialize, Serialize};

use crate::name::BudgetKey;
use crate::nullable::{given, not_null};
use crate::number::{Integer, integer, opt_integer};
use crate::object::Object;

/// How many tokens a budget has, and how they are refilled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Policy {
    /// The tokens of a full pool, unless a burst is set.
    pub allocation: u32,
    /// How tokens come back.
    pub strategy: Strategy,
}

/// How the tokens of a budget come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Strategy {
    /// When the job leaves flight.
    WhileInFlight,
    /// With time: the allocation drips in evenly over the duration.
    TimeBased {
        /// How long the whole allocation takes, in milliseconds.
        duration_ms: u64,
        /// The most tokens the pool holds; absent: the allocation.
        #[serde(skip_serializing_if = "Option::is_none")]
        burst: Option<u32>,
    },
}

impl Policy {
    /// The most tokens the pool holds.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        match self.strategy {
            Strategy::TimeBased { burst: Some(burst), .. } => burst,
            Strategy::TimeBased { burst: None, .. } | Strategy::WhileInFlight => self.allocation,
        }
    }

    /// The highest cost that can ever be paid.
    #[must_use]
    pub fn highest_cost(&self) -> u32 {
        self.allocation.min(self.capacity())
    }
}

/// The tokens that each delivery of a job takes from a budget.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Binding {
    /// The budget.
    pub key: BudgetKey,
    /// How many tokens.
    pub cost: u32,
}

/// A [`Binding`] in a request, with its key in the body or in the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBinding {
    /// The budget and the cost.
    pub binding: Binding,
    /// The policy of the budget, if it must be created.
    pub create_with: Option<Policy>,
}

/// The maximum number of budgets per job.
pub const MAX_BINDINGS: usize = 32;
/// The longest duration of a budget, in milliseconds: a hundred years.
pub const MAX_DURATION_MS: u64 = 36_525 * 86_400_000;

/// `{allocation, strategy}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRequest {
    #[serde(deserialize_with = "integer")]
    allocation: u32,
    strategy: Object<StrategyRequest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct StrategyRequest {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "opt_integer")]
    duration_ms: Option<u64>,
    #[serde(default, deserialize_with = "opt_integer")]
    burst: Option<u32>,
}

impl PolicyRequest {
    /// The policy.
    ///
    /// # Errors
    /// A sentence for a policy that makes no sense (422).
    pub fn check(self) -> Result<Policy, String> {
        let Self { allocation, strategy: Object(StrategyRequest { kind, duration_ms, burst }) } = self;
        policy(allocation, &kind, duration_ms, burst)
    }
}

fn policy(
    allocation: u32,
    kind: &str,
    duration_ms: Option<u64>,
    burst: Option<u32>,
) -> Result<Policy, String> {
    if allocation == 0 {
        return Err("allocation: 0 would never let a job through".to_owned());
    }
    let strategy = match (kind, duration_ms) {
        ("while_in_flight", _) => {
            let surplus = duration_ms.map(|_| "duration_ms").or(burst.map(|_| "burst"));
            if let Some(name) = surplus {
                return Err(format!("strategy.{name}: while_in_flight does not take it"));
            }
            Strategy::WhileInFlight
        }
        ("time_based", None) => return Err("strategy.duration_ms: time_based needs it".to_owned()),
        ("time_based", Some(duration_ms)) => {
            if !(1..=MAX_DURATION_MS).contains(&duration_ms) {
                return Err(format!(
                    "strategy.duration_ms: {duration_ms} is out of range 1 to {MAX_DURATION_MS}"
                ));
            }
            if burst == Some(0) {
                return Err("strategy.burst: 0 would never let a job through".to_owned());
            }
            Strategy::TimeBased { duration_ms, burst }
        }
        (other, _) => {
            let other = crate::error::excerpt(other);
            return Err(format!("strategy.type: `{other}` is neither while_in_flight nor time_based"));
        }
    };
    Ok(Policy { allocation, strategy })
}

/// A merge patch of a policy: absent members stay unchanged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyPatch {
    #[serde(default, deserialize_with = "given_integer")]
    allocation: Option<Option<u32>>,
    #[serde(default, deserialize_with = "given")]
    strategy: Option<Option<Object<StrategyPatch>>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct StrategyPatch {
    #[serde(default, rename = "type", deserialize_with = "given")]
    kind: Option<Option<String>>,
    #[serde(default, deserialize_with = "given_integer")]
    duration_ms: Option<Option<u64>>,
    /// `null` clears it.
    #[serde(default, deserialize_with = "given_integer")]
    burst: Option<Option<u32>>,
}

/// [`given`] of an integer.
#[expect(clippy::option_option, reason = "absent, null and a value are three things")]
fn given_integer<'de, D: serde::Deserializer<'de>, T: Integer>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    opt_integer(deserializer).map(Some)
}

impl PolicyPatch {
    /// The patched policy.
    ///
    /// # Errors
    /// A sentence for a policy that makes no sense (422).
    pub fn apply(&self, to: Policy) -> Result<Policy, String> {
        let allocation = not_null("allocation", self.allocation)?.unwrap_or(to.allocation);
        let patch =
            not_null("strategy", self.strategy.clone())?.map(|Object(patch)| patch).unwrap_or_default();
        let patch_kind = not_null("strategy.type", patch.kind)?;
        let patch_duration = not_null("strategy.duration_ms", patch.duration_ms)?;
        let (kind, duration_ms, burst) = match to.strategy {
            Strategy::WhileInFlight => ("while_in_flight", None, None),
            Strategy::TimeBased { duration_ms, burst } => ("time_based", Some(duration_ms), burst),
        };
        let new_kind = patch_kind.as_deref().unwrap_or(kind);
        // Another strategy takes nothing over from the one before.
        let (duration_ms, burst) = if new_kind == kind { (duration_ms, burst) } else { (None, None) };
        policy(allocation, new_kind, patch_duration.or(duration_ms), patch.burst.unwrap_or(burst))
    }
}

/// `{cost?, create_with?}`: a binding whose key is in the path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BindingRequest {
    #[serde(default, deserialize_with = "opt_integer")]
    cost: Option<u32>,
    #[serde(default)]
    create_with: Option<Object<PolicyRequest>>,
}

impl BindingRequest {
    /// The binding to this budget.
    ///
    /// # Errors
    /// A sentence for what makes no sense (422).
    pub fn check(self, key: BudgetKey) -> Result<NewBinding, String> {
        let cost = checked_cost(self.cost.unwrap_or(1))?;
        let create_with = self.create_with.map(|Object(policy)| policy.check());
        let create_with = create_with.transpose().map_err(|e| format!("create_with.{e}"))?;
        Ok(NewBinding { binding: Binding { key, cost }, create_with })
    }
}

/// `{cost}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostRequest {
    #[serde(deserialize_with = "opt_integer")]
    cost: Option<u32>,
}

impl CostRequest {
    /// The cost.
    ///
    /// # Errors
    /// A sentence if it is not valid (422).
    pub fn check(self) -> Result<u32, String> {
        checked_cost(not_null("cost", Some(self.cost))?.unwrap_or_default())
    }
}

fn checked_cost(cost: u32) -> Result<u32, String> {
    if cost == 0 { Err("cost: 0 is out of range 1 to 4294967295".to_owned()) } else { Ok(cost) }
}

/// One element of `budgets`: `{key, cost?, create_with?}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyedBindingRequest {
    key: BudgetKey,
    #[serde(default, deserialize_with = "opt_integer")]
    cost: Option<u32>,
    #[serde(default)]
    create_with: Option<Object<PolicyRequest>>,
}

/// Checks the list of budgets of a job.
///
/// # Errors
/// A sentence that names the element (422).
pub fn check_bindings(requests: Vec<Object<KeyedBindingRequest>>) -> Result<Vec<NewBinding>, String> {
    if requests.len() > MAX_BINDINGS {
        return Err(format!(
            "budgets: {} are too many, a job draws on at most {MAX_BINDINGS}",
            requests.len()
        ));
    }
    let mut bindings: Vec<NewBinding> = Vec::with_capacity(requests.len());
    for (i, Object(KeyedBindingRequest { key, cost, create_with })) in requests.into_iter().enumerate() {
        if bindings.iter().any(|other| other.binding.key == key) {
            return Err(format!("budgets: `{key}` is named twice"));
        }
        let request = BindingRequest { cost, create_with };
        bindings.push(request.check(key).map_err(|e| format!("budgets[{i}].{e}"))?);
    }
    Ok(bindings)
}

/// A budget in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BudgetView {
    /// The key.
    pub key: BudgetKey,
    /// The tokens of a full pool.
    pub allocation: u32,
    /// How tokens come back.
    pub strategy: Strategy,
    /// When it was created, in milliseconds since the Unix epoch.
    pub created_at: u64,
    /// When its policy was last changed.
    pub updated_at: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;
    use crate::media::Format;
    use serde_json::{Value, json};

    fn checked(value: &Value) -> Result<Policy, String> {
        body::parse::<PolicyRequest>(Format::Json, value.to_string().as_bytes()).unwrap().check()
    }

    #[test]
    fn policies() {
        let policy = json!({"allocation": 5.0, "strategy": {"type": "time_based", "duration_ms": 7}});
        let expected = Strategy::TimeBased { duration_ms: 7, burst: None };
        assert_eq!(checked(&policy), Ok(Policy { allocation: 5, strategy: expected }));
        for (allocation, strategy, sentence) in [
            (0, json!({"type": "while_in_flight"}), "allocation: 0 "),
            (
                1,
                json!({"type": "while_in_flight", "duration_ms": 5}),
                "strategy.duration_ms: while_in_flight",
            ),
            (1, json!({"type": "while_in_flight", "burst": 5}), "strategy.burst: while_in_flight"),
            (1, json!({"type": "time_based"}), "strategy.duration_ms: time_based needs it"),
            (1, json!({"type": "time_based", "duration_ms": 0}), "strategy.duration_ms: 0 is out"),
            (1, json!({"type": "time_based", "duration_ms": 1, "burst": 0}), "strategy.burst: 0"),
            (1, json!({"type": "weekly"}), "strategy.type: `weekly`"),
        ] {
            let error = checked(&json!({"allocation": allocation, "strategy": strategy})).unwrap_err();
            assert!(error.starts_with(sentence), "{error}");
        }
    }

    #[test]
    fn a_patch_keeps_what_it_does_not_name() {
        let time = |duration_ms, burst| Strategy::TimeBased { duration_ms, burst };
        let start = Policy { allocation: 10, strategy: time(100, Some(3)) };
        let patched = |patch: Value, to: Policy| {
            body::parse::<PolicyPatch>(Format::Json, patch.to_string().as_bytes()).unwrap().apply(to)
        };
        let with = |allocation, strategy| Ok(Policy { allocation, strategy });
        assert_eq!(patched(json!({}), start), Ok(start));
        assert_eq!(patched(json!({"allocation": 4}), start), with(4, time(100, Some(3))));
        assert_eq!(patched(json!({"strategy": {"burst": null}}), start), with(10, time(100, None)));
        assert_eq!(patched(json!({"strategy": {"duration_ms": 9}}), start), with(10, time(9, Some(3))));
        let held = patched(json!({"strategy": {"type": "while_in_flight"}}), start).unwrap();
        assert_eq!(held.strategy, Strategy::WhileInFlight);
        assert!(patched(json!({"strategy": {"type": "time_based"}}), held).is_err());
        assert!(patched(json!({"strategy": {"burst": 2}}), held).is_err());
        assert!(patched(json!({"allocation": 0}), start).is_err());
    }
}
