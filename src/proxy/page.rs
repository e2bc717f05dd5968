//! What browsers are shown: the waiting page and the page of an error. No scripts, nothing from elsewhere.

use std::fmt::Write as _;
use std::time::Duration;

/// A page, in plain words; everything is escaped on its way in.
#[derive(Debug)]
pub struct Page<'a> {
    pub title: &'a str,
    pub heading: &'a str,
    pub paragraphs: &'a [&'a str],
    /// Shown last and small, such as an error id.
    pub footnote: Option<&'a str>,
    /// The browser asks again after so long.
    pub refresh: Option<Duration>,
    /// Whether something is going on.
    pub moving: bool,
}

const TEMPLATE: &str = include_str!("page.html");

impl Page<'_> {
    pub fn render(&self) -> String {
        let mut refresh = String::new();
        if let Some(after) = self.refresh {
            let seconds = whole_seconds(after);
            let _ = writeln!(
                refresh,
                "<meta http-equiv=\"refresh\" content=\"{seconds}\">"
            );
        }
        let mut paragraphs = String::new();
        for paragraph in self.paragraphs {
            let _ = writeln!(paragraphs, "<p>{}</p>", escape(paragraph));
        }
        if let Some(footnote) = self.footnote {
            let _ = writeln!(paragraphs, "<p><code>{}</code></p>", escape(footnote));
        }
        let still = if self.moving { "" } else { " still" };
        fill(&[
            ("refresh", &refresh),
            ("title", &escape(self.title)),
            ("still", still),
            ("heading", &escape(self.heading)),
            ("paragraphs", &paragraphs),
        ])
    }
}

/// Fills the template's places in one pass, so that what is filled in is not read as a place.
fn fill(values: &[(&str, &str)]) -> String {
    let mut page = String::with_capacity(TEMPLATE.len() + 512);
    let mut rest = TEMPLATE;
    while let Some(open) = rest.find('{') {
        let (before, after) = rest.split_at(open);
        page.push_str(before);
        let place = values.iter().find(|(name, _)| {
            after[1..]
                .strip_prefix(name)
                .is_some_and(|tail| tail.starts_with('}'))
        });
        rest = match place {
            Some((name, value)) => {
                page.push_str(value);
                &after[name.len() + 2..]
            }
            None => {
                page.push('{');
                &after[1..]
            }
        };
    }
    page.push_str(rest);
    page
}

/// At least one, rounded up: what `Retry-After` and a refresh can say.
pub fn whole_seconds(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page<'static> {
        Page {
            title: "t",
            heading: "h",
            paragraphs: &["one", "two"],
            footnote: None,
            refresh: Some(Duration::from_millis(1200)),
            moving: true,
        }
    }

    #[test]
    fn a_page_is_whole_and_needs_nothing_from_elsewhere() {
        let page = page().render();
        assert!(page.contains("<title>t</title>") && page.contains("<h1>h</h1>"));
        assert!(page.contains("<p>one</p>\n<p>two</p>"));
        assert!(page.contains(r#"<meta http-equiv="refresh" content="2">"#));
        for outside in ["src=", "href=", "url(", "<script", "@import"] {
            assert!(!page.contains(outside), "{outside}");
        }
        for place in [
            "{refresh}",
            "{title}",
            "{still}",
            "{heading}",
            "{paragraphs}",
        ] {
            assert!(!page.contains(place), "{place}");
        }
    }

    #[test]
    fn what_is_shown_cannot_become_markup_or_a_place() {
        let page = Page {
            heading: "{paragraphs}",
            paragraphs: &["<b onclick='x'>&\""],
            refresh: None,
            ..page()
        }
        .render();
        assert!(page.contains("<h1>{paragraphs}</h1>"));
        assert!(page.contains("<p>&lt;b onclick=&#39;x&#39;&gt;&amp;&quot;</p>"));
        assert!(!page.contains("http-equiv"));
    }
}
