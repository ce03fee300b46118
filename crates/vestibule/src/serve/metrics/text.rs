//! Prometheus's text format, version 0.0.4.

use std::fmt::{Display, Write};

/// A page of metrics.
#[derive(Default)]
pub struct Page(String);

/// Names and values. Names are ours; values may hold anything.
pub type Labels<'l> = [(&'l str, &'l str)];

/// One metric of a page, to which samples are added.
pub struct Metric<'p> {
    page: &'p mut String,
    name: &'static str,
}

impl Page {
    /// A number that only rises. By convention its name ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Metric<'_> {
        self.metric(name, "counter", help)
    }

    /// A number that rises and falls.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Metric<'_> {
        self.metric(name, "gauge", help)
    }

    /// Observations in buckets.
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Metric<'_> {
        self.metric(name, "histogram", help)
    }

    fn metric(&mut self, name: &'static str, kind: &str, help: &str) -> Metric<'_> {
        // Writing into memory never fails.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Metric { page: &mut self.0, name }
    }

    pub fn into_text(self) -> String {
        self.0
    }
}

impl Metric<'_> {
    pub fn sample(&mut self, labels: &Labels<'_>, value: impl Display) {
        self.line("", labels, None, value);
    }

    /// A whole histogram: observations by bucket, not cumulative, the last beyond all bounds; and their sum.
    pub fn buckets(&mut self, labels: &Labels<'_>, bounds: &[f64], counts: &[u64], sum: f64) {
        let mut below = 0;
        for (index, count) in counts.iter().enumerate() {
            below += count;
            let bound = bounds.get(index).map_or_else(|| "+Inf".to_owned(), f64::to_string);
            self.line("_bucket", labels, Some(&bound), below);
        }
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, below);
    }

    fn line(&mut self, suffix: &str, labels: &Labels<'_>, bound: Option<&str>, value: impl Display) {
        self.page.push_str(self.name);
        self.page.push_str(suffix);
        let bound = bound.map(|bound| ("le", bound));
        for (index, (name, value)) in labels.iter().copied().chain(bound).enumerate() {
            self.page.push_str(if index == 0 { "{" } else { "," });
            self.page.push_str(name);
            self.page.push_str("=\"");
            escape(self.page, value);
            self.page.push('"');
        }
        let end = if labels.is_empty() && bound.is_none() { "" } else { "}" };
        let _ = writeln!(self.page, "{end} {value}");
    }
}

/// Backslashes, quotes and line feeds are all that must not stand in a label's value as they are.
fn escape(out: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_kept() {
        let mut page = Page::default();
        let mut requests = page.counter("requests_total", "Requests.");
        requests.sample(&[], 3);
        requests.sample(&[("rule", "/a\"\\\n*"), ("class", "2xx")], 1);
        page.histogram("seconds", "Time.").buckets(&[("a", "b")], &[0.0025, 1.0], &[2, 0, 1], 7.5);
        let wanted = "# HELP requests_total Requests.\n# TYPE requests_total counter\nrequests_total 3\n\
                      requests_total{rule=\"/a\\\"\\\\\\n*\",class=\"2xx\"} 1\n\
                      # HELP seconds Time.\n# TYPE seconds histogram\n\
                      seconds_bucket{a=\"b\",le=\"0.0025\"} 2\nseconds_bucket{a=\"b\",le=\"1\"} 2\n\
                      seconds_bucket{a=\"b\",le=\"+Inf\"} 3\nseconds_sum{a=\"b\"} 7.5\nseconds_count{a=\"b\"} 3\n";
        assert_eq!(page.into_text(), wanted);
    }
}
