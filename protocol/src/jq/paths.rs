//! Functions over paths, and updates of the values at their ends.

use std::sync::Arc;

use super::value::{Kind, MAX_DEPTH, MAX_LENGTH, Members, Nest, Outcome, TOO_DEEP, TOO_LONG, Value, failure};

fn steps(path: &Value) -> Outcome<&[Value]> {
    path.as_array().ok_or_else(|| failure("Path must be specified as an array"))
}

pub(super) fn get_path(value: Value, path: Value) -> Outcome {
    let mut found = value;
    for step in steps(&path)? {
        found = found.get(step)?;
    }
    Ok(found)
}

pub(super) fn set_path(value: Value, path: Value, new: Value) -> Outcome {
    set(value, steps(&path)?, new)
}

fn set(value: Value, path: &[Value], new: Value) -> Outcome {
    let Some((step, rest)) = path.split_first() else { return Ok(new) };
    let inner = value.get(step)?;
    if rest.is_empty() {
        return put(value, step, new);
    }
    // What is changed is not held twice, so that it need not be copied.
    let value = if matches!(step.0, Kind::Object(_)) { value } else { put(value, step, Value::NULL)? };
    put(value, step, set(inner, rest, new)?)
}

/// `.[key] = new`
fn put(value: Value, key: &Value, new: Value) -> Outcome {
    let depth = new.depth() + 1;
    if depth > MAX_DEPTH {
        return Err(failure(TOO_DEEP));
    }
    match (value.0, &key.0) {
        (Kind::Object(mut object), Kind::Text(name)) => {
            let members = Arc::make_mut(&mut object);
            members.depth = members.depth.max(depth);
            members.items.insert(name.clone(), new);
            Ok(Value(Kind::Object(object)))
        }
        (Kind::Null, Kind::Text(name)) => Value::object(Members::from_iter([(name.clone(), new)])),
        (Kind::Array(array), Kind::Number(n)) => put_at(array, n.value(), new, depth),
        (Kind::Null, Kind::Number(n)) => put_at(Arc::default(), n.value(), new, depth),
        (Kind::Array(array), Kind::Object(_)) => splice(&array, key, &new),
        (Kind::Null, Kind::Object(_)) => splice(&Nest::default(), key, &new),
        (Kind::Text(_), Kind::Object(_)) => Err(failure("Cannot update string slices")),
        (other, _) => {
            Err(failure(format!("Cannot update field at {} index of {}", key.kind(), Value(other).kind())))
        }
    }
}

fn put_at(mut array: Arc<Nest<Vec<Value>>>, n: f64, new: Value, depth: u32) -> Outcome {
    if n.is_nan() {
        return Err(failure("Cannot set array element at NaN index"));
    }
    let length = array.items.len();
    #[expect(clippy::cast_possible_truncation, reason = "clamped")]
    let n = n.clamp(f64::from(i32::MIN), f64::from(i32::MAX)) as i64;
    let place = match usize::try_from(n) {
        Ok(place) => Some(place),
        Err(_) => usize::try_from(n.unsigned_abs()).ok().and_then(|back| length.checked_sub(back)),
    };
    let place = place.ok_or_else(|| failure("Out of bounds negative array index"))?;
    if place > MAX_LENGTH {
        return Err(failure(TOO_LONG));
    }
    let nest = Arc::make_mut(&mut array);
    nest.depth = nest.depth.max(depth);
    if place >= length {
        nest.items.resize(place + 1, Value::NULL);
    }
    if let Some(slot) = nest.items.get_mut(place) {
        *slot = new;
    }
    Ok(Value(Kind::Array(array)))
}

fn splice(array: &Nest<Vec<Value>>, key: &Value, new: &Value) -> Outcome {
    let range = Value(Kind::Array(Arc::new(array.clone()))).slice(key)?;
    let new =
        new.as_array().ok_or_else(|| failure("A slice of an array can only be assigned another array"))?;
    let mut items = array.items.clone();
    items.splice(range, new.iter().cloned());
    Value::array(items)
}

pub(super) fn delete_paths(value: Value, paths: Value) -> Outcome {
    let paths = paths.as_array().ok_or_else(|| failure("Paths must be specified as an array"))?;
    let mut sorted = Vec::new();
    let mut by_order: Vec<&Value> = paths.iter().collect();
    by_order.sort_by(|a, b| a.compare(b));
    for path in by_order {
        let wrong = || failure(format!("Path must be specified as array, not {}", path.kind()));
        sorted.push(path.as_array().ok_or_else(wrong)?);
    }
    match sorted.first() {
        None => Ok(value),
        Some([]) => Ok(Value::NULL),
        Some(_) => delete_sorted(value, &sorted, 0),
    }
}

/// Paths that share their first steps are next to each other.
fn delete_sorted(mut value: Value, paths: &[&[Value]], start: usize) -> Outcome {
    let mut gone = Vec::new();
    let mut rest = paths;
    while let Some(key) = rest.first().and_then(|path| path.get(start)) {
        let same = rest.iter().take_while(|path| path.get(start) == Some(key)).count().max(1);
        let (here, others) = rest.split_at_checked(same).unwrap_or((rest, &[]));
        rest = others;
        if here.first().is_some_and(|path| path.len() == start + 1) {
            gone.push(key);
            continue;
        }
        let inner = value.get(key)?;
        if inner.is_null() {
            continue;
        }
        let inner = delete_sorted(inner, here, start + 1)?;
        value = put(value, key, inner)?;
    }
    delete(value, &gone)
}

fn delete(value: Value, keys: &[&Value]) -> Outcome {
    if keys.is_empty() {
        return Ok(value);
    }
    match value.0 {
        Kind::Null => Ok(Value::NULL),
        Kind::Object(mut object) => {
            let members = Arc::make_mut(&mut object);
            for key in keys {
                let wrong = || failure(format!("Cannot delete {} field of object", key.kind()));
                members.items.shift_remove(key.as_text().ok_or_else(wrong)?);
            }
            Ok(Value(Kind::Object(object)))
        }
        Kind::Array(array) => delete_elements(array, keys),
        other => Err(failure(format!("Cannot delete fields from {}", Value(other).kind()))),
    }
}

fn delete_elements(array: Arc<Nest<Vec<Value>>>, keys: &[&Value]) -> Outcome {
    let value = Value(Kind::Array(array.clone()));
    let mut is_gone = vec![false; array.items.len()];
    for key in keys {
        match &key.0 {
            Kind::Number(n) => {
                #[expect(clippy::cast_possible_truncation, reason = "what is beyond is no place")]
                let n = n.value() as i64;
                let place = match usize::try_from(n) {
                    Ok(place) => Some(place),
                    Err(_) => {
                        usize::try_from(n.unsigned_abs()).ok().and_then(|n| array.items.len().checked_sub(n))
                    }
                };
                if let Some(gone) = place.and_then(|place| is_gone.get_mut(place)) {
                    *gone = true;
                }
            }
            Kind::Object(_) => {
                let range = value.slice(key)?;
                is_gone.get_mut(range).into_iter().flatten().for_each(|gone| *gone = true);
            }
            _ => return Err(failure(format!("Cannot delete {} element of array", key.kind()))),
        }
    }
    let kept = array.items.iter().zip(is_gone).filter(|(_, gone)| !gone).map(|(item, _)| item.clone());
    Value::array(kept.collect())
}

pub(super) fn has(value: Value, key: Value) -> Outcome {
    let found = match (&value.0, &key.0) {
        (Kind::Null, _) => false,
        (Kind::Object(object), Kind::Text(name)) => object.items.contains_key(name.as_str()),
        (Kind::Array(array), Kind::Number(n)) => {
            #[expect(clippy::cast_possible_truncation, reason = "what is beyond is no place")]
            let place = usize::try_from(n.value() as i64);
            !n.is_nan() && place.is_ok_and(|place| place < array.items.len())
        }
        _ => {
            let (value, key) = (value.kind(), key.kind());
            return Err(failure(format!("Cannot check whether {value} has a {key} key")));
        }
    };
    Ok(Value::bool(found))
}

pub(super) fn contains(value: Value, other: Value) -> Outcome {
    if value.kind() != other.kind()
        || matches!((&value.0, &other.0), (Kind::Bool(a), Kind::Bool(b)) if a != b)
    {
        let told = format!("{} and {}", value.told(), other.told());
        return Err(failure(format!("{told} cannot have their containment checked")));
    }
    Ok(Value::bool(holds(&value, &other)))
}

fn holds(value: &Value, other: &Value) -> bool {
    match (&value.0, &other.0) {
        (Kind::Object(a), Kind::Object(b)) => b
            .items
            .iter()
            .all(|(name, other)| a.items.get(name.as_str()).is_some_and(|value| holds(value, other))),
        (Kind::Array(a), Kind::Array(b)) => {
            b.items.iter().all(|other| a.items.iter().any(|value| holds(value, other)))
        }
        (Kind::Text(a), Kind::Text(b)) => a.contains(b.as_str()),
        _ => value == other,
    }
}

/// Names in order, or places.
pub(super) fn keys(value: Value) -> Outcome {
    match &value.0 {
        Kind::Object(object) => {
            let mut names: Vec<_> = object.items.keys().collect();
            names.sort_unstable();
            Ok(Value::flat(names.into_iter().map(|name| Value(Kind::Text(name.clone()))).collect()))
        }
        _ => keys_unsorted(value),
    }
}

pub(super) fn keys_unsorted(value: Value) -> Outcome {
    let entries = value.entries().ok_or_else(|| failure(format!("{} has no keys", value.told())))?;
    Ok(Value::flat(entries.map(|(key, _)| key).collect()))
}

pub(super) fn slice(start: Value, end: Value) -> Value {
    Value::record([("start", start), ("end", end)])
}
