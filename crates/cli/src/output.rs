//! Standard output for data, standard error for talk, and a spinner where somebody looks at one.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::style::Style;
use crate::watch::Waiting;

/// How often a reader without a spinner is told what is still being waited for.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Both streams and whether the data is JSON.
#[derive(Debug)]
pub struct Output {
    json: bool,
    style: Style,
    spinner: Option<ProgressBar>,
}

impl Output {
    /// For this process's streams.
    pub fn new(json: bool) -> Self {
        let no_color = std::env::var("NO_COLOR").ok();
        let term = std::env::var("TERM").ok();
        // Lines for people go to standard error when standard output carries JSON.
        let shown = if json { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        let style = Style::choose(shown, no_color.as_deref(), term.as_deref());
        let moving = io::stderr().is_terminal() && term.as_deref() != Some("dumb");
        Self { json, style, spinner: moving.then(spinner) }
    }

    /// Whether the data is JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether to colour lines for people.
    pub fn style(&self) -> Style {
        self.style
    }

    /// Whether something moves on the screen while the program waits.
    pub fn has_spinner(&self) -> bool {
        self.spinner.is_some()
    }

    /// Lines that people asked for: data, unless the data is JSON.
    pub fn lines<S: AsRef<str>>(&self, lines: &[S]) -> io::Result<()> {
        self.around_spinner(|| {
            if self.json {
                write_lines(io::stderr(), lines)
            } else {
                write_lines(io::stdout(), lines)
            }
        })
    }

    /// Lines on the side.
    pub fn talk<S: AsRef<str>>(&self, lines: &[S]) -> io::Result<()> {
        self.around_spinner(|| write_lines(io::stderr(), lines))
    }

    /// One JSON document, indented.
    pub fn document(&self, document: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string_pretty(document)?;
        self.around_spinner(|| write_lines(io::stdout(), &[text]))
    }

    /// One JSON document on a line of its own, for streams of them.
    pub fn record(&self, document: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(document)?;
        self.around_spinner(|| write_lines(io::stdout(), &[text]))
    }

    /// Shows what is being waited for; the elapsed time begins anew when it is something else.
    pub fn wait_for(&self, waiting: Option<&Waiting>) {
        let Some(spinner) = &self.spinner else { return };
        match waiting {
            None => spinner.set_draw_target(ProgressDrawTarget::hidden()),
            Some(waiting) => {
                if spinner.message() != waiting.what {
                    spinner.reset_elapsed();
                    spinner.set_message(waiting.what.clone());
                }
                if spinner.is_hidden() {
                    spinner.set_draw_target(ProgressDrawTarget::stderr());
                }
                spinner.tick();
            }
        }
    }

    /// Shows that something outside a session is being waited for; says it once without a spinner.
    pub fn wait(&self, what: &str) {
        if self.has_spinner() {
            let since = protocol::Timestamp::default();
            self.wait_for(Some(&Waiting { what: what.to_owned(), since }));
        } else {
            // Talk that cannot be written is nothing to fail for.
            let _ = self.talk(&[format!("… {what}")]);
        }
    }

    /// Takes the spinner off the screen for good.
    pub fn finish(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }

    fn around_spinner(&self, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        match &self.spinner {
            Some(spinner) => spinner.suspend(write),
            None => write(),
        }
    }
}

fn spinner() -> ProgressBar {
    let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    // The template is a constant that the test below parses.
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

const TEMPLATE: &str = "{spinner} {elapsed:>4}  {wide_msg}";

fn write_lines<S: AsRef<str>>(mut stream: impl io::Write, lines: &[S]) -> io::Result<()> {
    let mut text = String::new();
    for line in lines {
        text.push_str(line.as_ref());
        text.push('\n');
    }
    // One write, so that lines of several writers do not mix.
    stream.write_all(text.as_bytes())?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spinner_has_its_style() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }

    #[test]
    fn lines_end_with_line_ends() {
        let mut written = Vec::new();
        write_lines(&mut written, &["a", "b"]).expect("writing to memory");
        assert_eq!(written, b"a\nb\n");
    }
}
