//! A browser under test, and its tabs.

use std::env;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chromiumoxide::cdp::browser_protocol::emulation::{MediaFeature, SetDeviceMetricsOverrideParams};
use chromiumoxide::cdp::browser_protocol::input::{
    DispatchKeyEventParams, DispatchKeyEventType, InsertTextParams,
};
use chromiumoxide::cdp::browser_protocol::log::EventEntryAdded;
use chromiumoxide::cdp::browser_protocol::page::SetBypassCspParams;
use chromiumoxide::cdp::js_protocol::runtime::EventExceptionThrown;
use chromiumoxide::layout::Point;
use chromiumoxide::page::ScreenshotParams;
use chromiumoxide::{BrowserConfig, Page, keys};
use futures_util::StreamExt;
use serde_json::Value;
use tempfile::TempDir;
use tests::wait::{until, within};
use tokio::task::JoinSet;

/// Calls that a server may be without; a browser reports their 404.
const OPTIONAL: [&str; 2] = ["/whoami", "/audit?"];

/// A running chromium. It ends with its owner.
pub(crate) struct Browser {
    browser: chromiumoxide::Browser,
    tasks: JoinSet<()>,
    _profile: TempDir,
}

impl Browser {
    /// Starts one; none where there is no chromium, which is said loudly.
    pub(crate) async fn start() -> Option<Self> {
        let paths = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&paths).map(|folder| folder.join("chromium")).find(|path| path.exists());
        let Some(chromium) = found else {
            assert!(env::var_os("CI").is_none(), "CI needs chromium: apt-get install chromium");
            eprintln!(
                "SKIPPED: there is no chromium, so the dashboard is not tested (apt-get install chromium)"
            );
            return None;
        };
        let profile = TempDir::with_prefix("zizq-test-").unwrap();
        let config = BrowserConfig::builder()
            .chrome_executable(chromium)
            .user_data_dir(profile.path())
            .no_sandbox()
            .launch_timeout(Duration::from_secs(60))
            .request_timeout(Duration::from_secs(60))
            .args(["disable-gpu", "disable-dev-shm-usage", "lang=en-US"])
            .build()
            .unwrap();
        let (browser, mut handler) = chromiumoxide::Browser::launch(config).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { while handler.next().await.is_some() {} });
        Some(Self { browser, tasks, _profile: profile })
    }

    /// Opens a tab at this address.
    pub(crate) async fn open(&mut self, url: &str) -> Tab {
        let page = self.browser.new_page("about:blank").await.unwrap();
        page.enable_log().await.unwrap();
        let tab = Tab { page, errors: Arc::default() };
        self.watch(&tab).await;
        tab.size(1280, 900).await;
        tab.go(url).await;
        tab
    }

    /// Collects what the browser complains about.
    async fn watch(&mut self, tab: &Tab) {
        let errors = Arc::clone(&tab.errors);
        let mut entries = tab.page.event_listener::<EventEntryAdded>().await.unwrap();
        self.tasks.spawn(async move {
            while let Some(event) = entries.next().await {
                let entry = &event.entry;
                let text = format!("{} {}", entry.text, entry.url.as_deref().unwrap_or_default());
                let optional = entry.text.starts_with("Failed to load resource")
                    && OPTIONAL.iter().any(|path| text.contains(path));
                if entry.level.as_ref() == "error" && !optional {
                    errors.lock().unwrap().push(text);
                }
            }
        });
        let errors = Arc::clone(&tab.errors);
        let mut thrown = tab.page.event_listener::<EventExceptionThrown>().await.unwrap();
        self.tasks.spawn(async move {
            while let Some(event) = thrown.next().await {
                errors.lock().unwrap().push(format!("{:?}", event.exception_details));
            }
        });
    }
}

/// A tab. What it complained about is checked by [`Tab::fine`].
pub(crate) struct Tab {
    page: Page,
    errors: Arc<Mutex<Vec<String>>>,
}

impl Tab {
    /// Goes to an address.
    pub(crate) async fn go(&self, url: &str) {
        within(url, self.page.goto(url)).await.unwrap_or_else(|e| panic!("{url}: {e}"));
    }

    /// Evaluates an expression, and waits for its promise.
    pub(crate) async fn eval(&self, expression: &str) -> Value {
        // A function of its own, so that `await` and `return` mean what they say.
        let function = format!("async () => {{ {expression} }}");
        let result = within(expression, self.page.evaluate_function(function)).await;
        result.unwrap_or_else(|e| panic!("{expression}: {e}")).value().cloned().unwrap_or(Value::Null)
    }

    /// Waits until the expression is true.
    pub(crate) async fn wait(&self, expression: &str) {
        let result = tokio::time::timeout(Duration::from_secs(30), async {
            let check = format!("return Boolean({expression})");
            until(expression, async || {
                // While the page is being replaced there is nothing to ask.
                let function = format!("async () => {{ {check} }}");
                let result = self.page.evaluate_function(function).await.ok()?;
                (result.value() == Some(&Value::Bool(true))).then_some(())
            })
            .await;
        })
        .await;
        if result.is_err() {
            panic!("waited in vain for {expression}; the page says:\n{}", self.text().await);
        }
    }

    /// All that can be read.
    pub(crate) async fn text(&self) -> String {
        self.eval("return document.body.innerText").await.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until this can be read.
    pub(crate) async fn see(&self, text: &str) {
        self.wait(&format!("document.body.innerText.includes({})", Value::from(text))).await;
    }

    /// Waits until this can no longer be read in the content of the page.
    pub(crate) async fn gone(&self, text: &str) {
        let text = Value::from(text);
        self.wait(&format!("!document.getElementById('main').innerText.includes({text})")).await;
    }

    /// Presses the button, or follows the link, with exactly this text: in the dialog if one is open.
    pub(crate) async fn press(&self, text: &str) {
        self.press_within("[document.querySelector('dialog[open]') ?? document]", text).await;
    }

    /// Presses the button with exactly this text that belongs to something: the first element with this selector that
    /// says `of`.
    pub(crate) async fn press_of(&self, selector: &str, of: &str, text: &str) {
        let (selector, of) = (Value::from(selector), Value::from(of));
        let places =
            format!("[...document.querySelectorAll({selector})].filter(one => one.innerText.includes({of}))");
        self.press_within(&places, text).await;
    }

    /// Waits until the first of these places has it, and presses it.
    async fn press_within(&self, places: &str, text: &str) {
        let pressed = format!(
            "(() => {{
                const all = {places}[0]?.querySelectorAll('button, a, summary') ?? [];
                const one = [...all].find(one => one.innerText.trim() === {} && !one.disabled && one.getClientRects().length);
                one?.click();
                return one;
            }})()",
            Value::from(text)
        );
        self.wait(&pressed).await;
    }

    /// Writes into the field with this selector, in place of what it has.
    pub(crate) async fn fill(&self, selector: &str, text: &str) {
        let selector = Value::from(selector);
        self.wait(&format!("document.querySelector({selector})")).await;
        self.eval(&format!("const one = document.querySelector({selector}); one.focus(); one.select()"))
            .await;
        if text.is_empty() {
            self.key("Delete").await;
        } else {
            self.page.execute(InsertTextParams::new(text)).await.unwrap();
        }
    }

    /// Moves the pointer over the first element with this selector, or away from everything.
    pub(crate) async fn hover(&self, selector: Option<&str>) {
        let place = match selector {
            Some(selector) => {
                let selector = Value::from(selector);
                let of = format!(
                    "const {{ x, y, width, height }} = document.querySelector({selector}).getBoundingClientRect();
                    return [x + width / 2, y + height / 2]"
                );
                self.eval(&of).await
            }
            None => serde_json::json!([1, 1]),
        };
        let [x, y] = [0, 1].map(|at| place[at].as_f64().unwrap());
        self.page.move_mouse(Point { x, y }).await.unwrap();
    }

    /// Goes to the first row of the table by its key, which counts once the table has been drawn.
    pub(crate) async fn first_row(&self) {
        until("a row with the focus", async || {
            self.key("j").await;
            let focus = self.eval("return Boolean(document.querySelector('tr:focus-within'))").await;
            (focus == true).then_some(())
        })
        .await;
    }

    /// Presses keys, one after the other, such as `g q` or `Ctrl+k`.
    pub(crate) async fn keys(&self, keys: &str) {
        for key in keys.split(' ') {
            self.key(key).await;
        }
    }

    async fn key(&self, key: &str) {
        let (modifiers, key) = match key.rsplit_once('+').filter(|(before, _)| !before.is_empty()) {
            Some(("Ctrl", key)) => (2, key),
            Some(("Shift", key)) => (8, key),
            _ => (0, key),
        };
        let known = keys::get_key_definition(key).unwrap_or_else(|| panic!("there is no key {key}"));
        let text = known.text.or_else(|| (known.key.chars().count() == 1).then_some(known.key));
        let mut event = DispatchKeyEventParams::builder()
            .key(known.key)
            .code(known.code)
            .windows_virtual_key_code(known.key_code)
            .modifiers(modifiers);
        let up = event.clone().r#type(DispatchKeyEventType::KeyUp).build().unwrap();
        let down = match text.filter(|_| modifiers != 2) {
            Some(text) => {
                event = event.text(text);
                DispatchKeyEventType::KeyDown
            }
            None => DispatchKeyEventType::RawKeyDown,
        };
        self.page.execute(event.r#type(down).build().unwrap()).await.unwrap();
        self.page.execute(up).await.unwrap();
    }

    /// Where it is: path and query.
    pub(crate) async fn place(&self) -> String {
        let place = self.eval("return location.pathname + location.search").await;
        place.as_str().unwrap_or_default().to_owned()
    }

    /// Gives the page so much room.
    pub(crate) async fn size(&self, width: i64, height: i64) {
        let params = SetDeviceMetricsOverrideParams::new(width, height, 1.0, false);
        self.page.execute(params).await.unwrap();
    }

    /// Prefers `light` or `dark`.
    pub(crate) async fn theme(&self, theme: &str) {
        let feature = MediaFeature { name: "prefers-color-scheme".to_owned(), value: theme.to_owned() };
        self.page.emulate_media_features(vec![feature]).await.unwrap();
    }

    /// Keeps a picture of the window, if `ZIZQ_PICTURES` names a folder for them.
    pub(crate) async fn picture(&self, name: &str) {
        let Some(folder) = env::var_os("ZIZQ_PICTURES").map(PathBuf::from) else { return };
        let name: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
            .take(100)
            .collect();
        let params = ScreenshotParams::builder().build();
        self.page.save_screenshot(params, folder.join(format!("{name}.png"))).await.unwrap();
    }

    /// Whether the page is wider than the window.
    pub(crate) async fn fits(&self, what: &str) {
        let wider = self.eval("return document.documentElement.scrollWidth - innerWidth").await;
        assert!(wider.as_i64().unwrap() <= 0, "{what} is {wider} pixels wider than the window");
    }

    /// Asserts that the browser has complained about nothing: no exception, no violation of the policy, no failed call.
    pub(crate) fn fine(&self) {
        let errors = self.errors.lock().unwrap();
        assert!(errors.is_empty(), "the browser complains:\n{}", errors.join("\n"));
    }

    /// Forgets what the browser complained about: in tests of what fails.
    pub(crate) fn forgive(&self) {
        self.errors.lock().unwrap().clear();
    }

    /// What axe-core finds wrong; nothing where it is not installed.
    pub(crate) async fn axe(&self, what: &str) {
        let Some(axe) = axe() else { return };
        // What fades in has too little contrast until it is there.
        self.wait("!document.querySelector('.loading') && !document.getAnimations().length").await;
        let source = std::fs::read_to_string(axe).unwrap();
        self.page.execute(SetBypassCspParams::new(true)).await.unwrap();
        self.page.evaluate_expression(format!("{source}; null")).await.unwrap();
        let found = self
            .eval(
                "const { violations } = await axe.run(document, { resultTypes: ['violations'] });\
                 return violations.flatMap(one => one.nodes.map(node => `${one.id}: ${node.target} ${node.failureSummary}`))",
            )
            .await;
        assert_eq!(found, serde_json::json!([]), "axe-core about {what}");
    }
}

/// The script of axe-core, from the folder that `.ci/run` installs.
fn axe() -> Option<PathBuf> {
    let folder = env::var_os("ZIZQ_AXE").map(PathBuf::from);
    if folder.is_none() {
        assert!(env::var_os("CI").is_none(), "CI needs axe-core: ZIZQ_AXE names its folder");
        eprintln!("SKIPPED: ZIZQ_AXE names no folder with axe-core, so accessibility is not tested");
    }
    folder.map(|folder| folder.join("node_modules/axe-core/axe.min.js"))
}
