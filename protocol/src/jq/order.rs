//! Sorting, grouping and searching by order.

use super::value::{Outcome, Value, failure};

/// Values by keys; those of equal keys stay as they were.
fn by_keys(value: &Value, keys: &Value) -> Outcome<Vec<(Value, Value)>> {
    let both = value.as_array().zip(keys.as_array()).filter(|(items, keys)| items.len() == keys.len());
    let (items, keys) = both.ok_or_else(|| {
        let told = format!("{} and {}", value.told(), keys.told());
        failure(format!("{told} cannot be sorted, as they are not both arrays"))
    })?;
    let mut pairs: Vec<(Value, Value)> = keys.iter().cloned().zip(items.iter().cloned()).collect();
    sort_pairs(&mut pairs);
    Ok(pairs)
}

fn sort_pairs(pairs: &mut [(Value, Value)]) {
    // What is no number is less than itself, which no other sort would bear.
    let is_total = pairs.iter().all(|(key, _)| key.compare(key).is_eq());
    if is_total {
        pairs.sort_by(|(a, _), (b, _)| a.compare(b));
        return;
    }
    let is_nan = |value: &Value| value.as_number().is_some_and(f64::is_nan);
    pairs.sort_by(|(a, _), (b, _)| match (is_nan(a), is_nan(b)) {
        (true, true) => std::cmp::Ordering::Equal,
        _ => a.compare(b),
    });
}

pub(super) fn sort(value: Value) -> Outcome {
    if value.as_array().is_none() {
        return Err(failure(format!("{} cannot be sorted, as it is not an array", value.told())));
    }
    sort_by(value.clone(), value)
}

pub(super) fn sort_by(value: Value, keys: Value) -> Outcome {
    Ok(Value::flat(by_keys(&value, &keys)?.into_iter().map(|(_, item)| item).collect()))
}

pub(super) fn group_by(value: Value, keys: Value) -> Outcome {
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for (key, item) in by_keys(&value, &keys)? {
        match groups.last_mut() {
            Some((last, group)) if *last == key => group.push(item),
            _ => groups.push((key, vec![item])),
        }
    }
    Value::array(groups.into_iter().map(|(_, group)| Value::array(group)).collect::<Result<_, _>>()?)
}

fn extreme(value: &Value, keys: &Value, least: bool) -> Outcome {
    let told = || format!("{} and {}", value.told(), keys.told());
    let (Some(items), Some(keys)) = (value.as_array(), keys.as_array()) else {
        return Err(failure(format!("{} cannot be iterated over", told())));
    };
    if items.len() != keys.len() {
        return Err(failure(format!("{} have wrong length", told())));
    }
    let mut pairs = keys.iter().zip(items);
    let Some(mut best) = pairs.next() else { return Ok(Value::NULL) };
    for pair in pairs {
        if pair.0.compare(best.0).is_lt() == least {
            best = pair;
        }
    }
    Ok(best.1.clone())
}

pub(super) fn min(value: Value) -> Outcome {
    extreme(&value, &value, true)
}

pub(super) fn max(value: Value) -> Outcome {
    extreme(&value, &value, false)
}

pub(super) fn min_by(value: Value, keys: Value) -> Outcome {
    extreme(&value, &keys, true)
}

pub(super) fn max_by(value: Value, keys: Value) -> Outcome {
    extreme(&value, &keys, false)
}
