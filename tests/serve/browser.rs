//! The page of somebody who is blocked, in a real browser on another host: headless Chromium,
//! driven by WebDriver (W3C) with curl.

use super::gate::{gated, pin, status};
use super::server::*;
use crate::netns::{Guard, obstacle};
use serde_json::{Value, json};
use std::process::Stdio;

const DRIVER: &str = "http://127.0.0.1:9515";
/// What W3C calls an element in JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

struct Browser<'a> {
    server: &'a Server,
    session: String,
    _driver: Guard,
}

impl Browser<'_> {
    fn start(server: &Server) -> Browser<'_> {
        let mut driver = server.world.command(CLIENT, "chromedriver");
        driver.args(["--port=9515", "--silent"]).stdout(Stdio::null()).stderr(Stdio::null());
        // All that it writes goes with the test.
        driver.env("HOME", server.path(".")).env("TMPDIR", server.path("."));
        let driver = Guard(driver.spawn().unwrap());
        let mut browser = Browser { server, session: String::new(), _driver: driver };
        eventually("the driver answers", || browser.call("GET", "/status", &json!({})).is_some());
        let args = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
        let options = json!({ "binary": "/usr/bin/chromium", "args": args });
        let wish = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let made = browser.call("POST", "/session", &wish).unwrap();
        browser.session = format!("/session/{}", made["sessionId"].as_str().unwrap());
        browser
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Option<Value> {
        let url = format!("{DRIVER}{path}");
        let mut curl = self.server.world.command(CLIENT, "curl");
        curl.args(["-s", "--max-time", "60", "-X", method, &url]);
        if method == "POST" {
            curl.args(["-H", "Content-Type: application/json", "-d", &body.to_string()]);
        }
        let out = curl.output().unwrap();
        let answer: Value = serde_json::from_slice(&out.stdout).ok()?;
        let value = answer["value"].clone();
        assert!(value.get("error").is_none(), "{method} {path}: {value}");
        Some(value)
    }

    fn get(&self, what: &str) -> Value {
        self.call("GET", &format!("{}{what}", self.session), &json!({})).unwrap()
    }

    fn post(&self, what: &str, body: &Value) -> Value {
        self.call("POST", &format!("{}{what}", self.session), body).unwrap()
    }

    /// Goes there; the text that a person sees then.
    fn visit(&self, path: &str) -> String {
        self.post("/url", &json!({ "url": format!("http://{SERVER_V4}:4444{path}") }));
        self.text()
    }

    fn text(&self) -> String {
        self.script("return document.body.innerText").as_str().unwrap().to_string()
    }

    fn script(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    fn find(&self, css: &str) -> String {
        let found = self.post("/element", &json!({ "using": "css selector", "value": css }));
        format!("/element/{}", found[ELEMENT].as_str().unwrap())
    }

    fn type_pin(&self, pin: &str) {
        self.post(&format!("{}/value", self.find("input[name=pin]")), &json!({ "text": pin }));
        self.post(&format!("{}/click", self.find("button")), &json!({}));
    }

    /// A picture of the window at this size, kept beside the build; nothing may stick out of it.
    fn picture(&self, name: &str, width: u32, height: u32) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 2, "mobile": true });
        let order = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": size });
        self.post("/goog/cdp/execute", &order);
        let wide = self.script("return document.documentElement.scrollWidth - window.innerWidth");
        assert!(wide.as_i64().unwrap() <= 0, "{name}: {wide} px stick out");
        let field = self.script(
            "const b = document.querySelector('button').getBoundingClientRect();\
             const i = document.querySelector('input').getBoundingClientRect();\
             return [b.height, i.height, Math.max(b.bottom, i.bottom) - window.innerHeight]",
        );
        // As large as a fingertip (WCAG 2.2, 2.5.8 asks for 24 px at least), and seen without scrolling.
        assert!(
            field[0].as_f64().unwrap() >= 36.0 && field[1].as_f64().unwrap() >= 36.0,
            "{field}"
        );
        assert!(field[2].as_f64().unwrap() <= 0.0, "{name}: {field}");
        let text = self.get("/screenshot").as_str().unwrap().to_string();
        let out = format!("{}/{name}.png", env!("CARGO_TARGET_TMPDIR"));
        self.server.write("picture", &text);
        let run = [
            "sh",
            "-c",
            &format!("base64 -d '{}' >'{out}'", self.server.path("picture").display()),
        ];
        self.server.world.run(CLIENT, &run);
        println!("{out}");
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() && !self.session.is_empty() {
            self.call("DELETE", &self.session, &json!({}));
        }
    }
}

#[test]
fn a_browser_is_blocked_types_the_pin_and_is_back_in() {
    if obstacle(&["chromium", "chromedriver", "curl"]).is_some() {
        return;
    }
    let Some(server) = gated("nftables", "") else { return };
    eventually("it serves", || status(&server, STRANGER, "/", &[]) == "200");
    let browser = Browser::start(&server);
    // Three unknown paths lead to the index, the fourth to the page.
    for path in ["/", "/admin", "/wp-login.php", "/.env"] {
        assert_eq!(browser.visit(path), "first", "{path}");
    }
    let page = browser.visit("/phpmyadmin");
    assert!(page.contains("PIN") && !page.contains("first"), "{page}");
    assert_eq!(browser.visit("/"), page, "and whatever he asks for");
    browser.picture("blocked-desktop", 1_280, 800);
    browser.picture("blocked-phone", 360, 740);
    let right = pin(&server);
    let wrong: String = right.chars().map(|c| if c == '9' { '0' } else { '9' }).collect();
    browser.type_pin(&wrong);
    eventually("says so", || browser.text().contains("3 tries are left"));
    browser.picture("blocked-phone-wrong", 360, 740);
    assert_eq!(status(&server, STRANGER, "/", &[]), "200", "nobody else is blocked");
    browser.type_pin(&right);
    eventually("back in", || browser.text() == "first");
    assert_eq!(browser.visit("/"), "first");
    assert_ne!(pin(&server), right, "it works once");
}
