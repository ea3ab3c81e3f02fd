//! Looks into answers of the API. What is missing is empty: another version of the server may not send it.

use serde_json::Value;

pub(super) trait Look<'a>: Copy {
    /// A member, or what a pointer such as `/a/b` leads to.
    fn at(self, path: &str) -> Option<&'a Value>;

    fn text(self, path: &str) -> Option<&'a str> {
        self.at(path).and_then(Value::as_str)
    }

    fn num(self, path: &str) -> Option<u64> {
        self.at(path).and_then(Value::as_u64)
    }

    fn float(self, path: &str) -> f64 {
        self.at(path).and_then(Value::as_f64).unwrap_or_default()
    }

    fn is(self, path: &str) -> bool {
        self.at(path).and_then(Value::as_bool).unwrap_or_default()
    }

    fn list(self, path: &str) -> &'a [Value] {
        self.at(path).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }
}

impl<'a> Look<'a> for &'a Value {
    fn at(self, path: &str) -> Option<&'a Value> {
        if path.starts_with('/') { self.pointer(path) } else { self.get(path) }
    }
}

impl<'a> Look<'a> for Option<&'a Value> {
    fn at(self, path: &str) -> Option<&'a Value> {
        self.and_then(|value| value.at(path))
    }
}
