//! The functions of jq that are not supported, and why.

/// Why a function of jq's is not there.
pub(super) fn refused(name: &str) -> Option<&'static str> {
    Some(match name {
        "env" | "get_search_list" | "get_prog_origin" | "get_jq_origin" => {
            "an expression sees nothing of the environment"
        }
        "input" | "inputs" | "input_filename" | "input_line_number" | "debug" | "stderr" => {
            "an expression has one input and no other way in or out"
        }
        "halt" | "halt_error" => "an expression cannot end the process; use `error`",
        "modulemeta" | "import" | "include" => "there are no modules",
        "localtime" | "strflocaltime" => "there is no local time; use `gmtime` and `strftime`",
        "builtins" => "it would tell of what is here, not of what jq has",
        "acosh" | "asinh" | "atanh" | "cbrt" | "erf" | "erfc" | "exp10" | "pow10" | "gamma" | "lgamma"
        | "lgamma_r" | "tgamma" | "j0" | "j1" | "jn" | "y0" | "y1" | "yn" => {
            "its last digits depend on the machine"
        }
        _ => return None,
    })
}
