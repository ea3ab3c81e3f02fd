//! Functions over numbers. Those whose last digit depends on the C library are left out (see `names`).

use super::value::{Kind, Outcome, Value, failure};

fn number(value: &Value) -> Outcome<f64> {
    value.as_number().ok_or_else(|| failure(format!("{} number required", value.told())))
}

fn of_one(value: &Value, f: impl Fn(f64) -> f64) -> Outcome {
    number(value).map(|x| Value::number(f(x)))
}

macro_rules! of_one {
    ($($name:ident = $f:expr;)*) => {
        $(pub(super) fn $name(value: Value) -> Outcome { of_one(&value, $f) })*
    };
}

macro_rules! of_two {
    ($($name:ident = $f:expr;)*) => {
        $(pub(super) fn $name(_: Value, a: Value, b: Value) -> Outcome {
            let (a, b) = (number(&a)?, number(&b)?);
            let f: fn(f64, f64) -> f64 = $f;
            Ok(Value::number(f(a, b)))
        })*
    };
}

of_one! {
    floor = f64::floor;
    ceil = f64::ceil;
    round = f64::round;
    trunc = f64::trunc;
    rint = f64::round_ties_even;
    sqrt = f64::sqrt;
    fabs = f64::abs;
    exp = f64::exp;
    exp2 = f64::exp2;
    expm1 = f64::exp_m1;
    log = f64::ln;
    log2 = f64::log2;
    log10 = f64::log10;
    log1p = f64::ln_1p;
    sin = f64::sin;
    cos = f64::cos;
    tan = f64::tan;
    asin = f64::asin;
    acos = f64::acos;
    atan = f64::atan;
    sinh = f64::sinh;
    cosh = f64::cosh;
    tanh = f64::tanh;
    significand = |x| if x == 0.0 || !x.is_finite() { x } else { libm::frexp(x).0 * 2.0 };
    logb = logb_of;
}

of_two! {
    pow = f64::powf;
    atan2 = f64::atan2;
    hypot = f64::hypot;
    copysign = f64::copysign;
    fmod = |a, b| a % b;
    remainder = libm::remainder;
    fdim = libm::fdim;
    fmin = f64::min;
    fmax = f64::max;
    nextafter = libm::nextafter;
    ldexp = scaled;
    scalb = |a, b| a * b.exp2();
}

fn logb_of(x: f64) -> f64 {
    if x == 0.0 {
        f64::NEG_INFINITY
    } else if x.is_infinite() {
        f64::INFINITY
    } else if x.is_nan() {
        x
    } else {
        f64::from(libm::frexp(x).1 - 1)
    }
}

fn scaled(x: f64, exponent: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, reason = "saturates, as what is beyond is beyond all numbers")]
    libm::scalbn(x, exponent as i32)
}

pub(super) fn fma(_: Value, a: Value, b: Value, c: Value) -> Outcome {
    Ok(Value::number(number(&a)?.mul_add(number(&b)?, number(&c)?)))
}

pub(super) fn frexp(value: Value) -> Outcome {
    let (mantissa, exponent) = libm::frexp(number(&value)?);
    Ok(Value::flat(vec![Value::number(mantissa), Value::number(f64::from(exponent))]))
}

pub(super) fn modf(value: Value) -> Outcome {
    let x = number(&value)?;
    let part = if x.is_infinite() { 0.0_f64.copysign(x) } else { (x - x.trunc()).copysign(x) };
    Ok(Value::flat(vec![Value::number(part), Value::number(x.trunc())]))
}

pub(super) fn length(value: Value) -> Outcome {
    Ok(match &value.0 {
        Kind::Null | Kind::Astray(_) => Value::count(0),
        Kind::Number(n) => Value::number(n.value().abs()),
        Kind::Text(text) => Value::count(text.chars().count()),
        Kind::Array(array) => Value::count(array.items.len()),
        Kind::Object(object) => Value::count(object.items.len()),
        Kind::Bool(_) => return Err(failure(format!("{} has no length", value.told()))),
    })
}

pub(super) fn is_infinite(value: Value) -> Outcome {
    Ok(Value::bool(value.as_number().is_some_and(f64::is_infinite)))
}

pub(super) fn is_nan(value: Value) -> Outcome {
    Ok(Value::bool(value.as_number().is_some_and(f64::is_nan)))
}

pub(super) fn is_normal(value: Value) -> Outcome {
    Ok(Value::bool(value.as_number().is_some_and(f64::is_normal)))
}
