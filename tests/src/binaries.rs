//! The binaries under test, built once per process.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The path of a binary of the workspace, `zizq-server` or `zizq-worker`.
///
/// Cargo tells a package about its own binaries only, so we ask it to build the others. `ZIZQ_BIN_DIR` names a folder
/// to take them from instead.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("ZIZQ_BIN_DIR") {
        return Path::new(&folder).join(name);
    }
    static BUILT: OnceLock<HashMap<String, PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build).get(name).unwrap_or_else(|| panic!("cargo built no binary {name}")).clone()
}

fn build() -> HashMap<String, PathBuf> {
    // Without cargo around us, as when the load tool is started by hand, what is installed chooses the toolchain.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // What cargo tells us about our package would make it build again whatever asks for that.
    let ours = std::env::vars_os().map(|(name, _)| name);
    let ours =
        ours.filter(|name| name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR");
    let mut cargo = Command::new(cargo);
    for name in ours {
        cargo.env_remove(name);
    }
    let output = cargo
        .args(["build", "--package=zizq-server", "--package=zizq-worker", "--bins"])
        .args(["--profile", &profile(), "--message-format=json-render-diagnostics"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo can be run");
    assert!(output.status.success(), "cargo could not build the binaries under test: {}", output.status);
    let messages = output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    messages.filter_map(|line| executable(&serde_json::from_slice(line).unwrap())).collect()
}

fn executable(message: &serde_json::Value) -> Option<(String, PathBuf)> {
    let path = PathBuf::from(message["executable"].as_str()?);
    Some((path.file_name()?.to_str()?.to_owned(), path))
}

/// The profile that we run in ourselves: the name of the folder `target/<profile>[/deps]` that we were started from.
fn profile() -> String {
    let this = std::env::current_exe().unwrap();
    let mut folder = this.parent().unwrap();
    if folder.ends_with("deps") {
        folder = folder.parent().unwrap();
    }
    match folder.file_name().and_then(|name| name.to_str()).unwrap() {
        "debug" => "dev".to_owned(),
        profile => profile.to_owned(),
    }
}
