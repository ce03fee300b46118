//! Drawing what was seen: instances against what the load needs, over time.

use std::fmt::Write as _;
use std::path::Path;

use crate::simulation::Sample;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 40.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 28.0;

pub struct Plot {
    title: &'static str,
}

impl Plot {
    pub fn new(title: &'static str) -> Plot {
        Plot { title }
    }

    /// Compares the drawing with `docs/autoscaler-NAME.svg`, or writes it if that is wanted.
    pub fn check(&self, name: &str, seen: &[Sample]) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../docs/autoscaler-{name}.svg"));
        let drawn = self.draw(seen);
        if std::env::var_os("VESTIBULE_WRITE_PLOTS").is_some() {
            std::fs::write(&path, &drawn).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == drawn, "{} is not what the autoscaler does: see this test's head", path.display());
    }

    fn draw(&self, seen: &[Sample]) -> String {
        let total: f64 = seen.iter().map(|sample| sample.length.as_secs_f64()).sum();
        let most = seen.iter().map(|sample| sample.instances).max().unwrap_or(0).max(1);
        // Two lines of room above.
        let top = (most + 1) as f64;
        let x = |second: f64| LEFT + second / total * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value.min(top) / top * (HEIGHT - TOP - BOTTOM);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <text x=\"{LEFT}\" y=\"16\" font-weight=\"bold\">{}</text>\n",
            self.title
        );
        for value in ticks(most) {
            let at = y(value as f64);
            let _ = writeln!(
                out,
                "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{value}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0
            );
        }
        let unit = if total > 7_200.0 { (3_600.0, "h") } else { (60.0, "min") };
        for part in 0..=6 {
            let second = total * f64::from(part) / 6.0;
            let anchor = if part == 6 { "end" } else { "middle" };
            let _ = writeln!(
                out,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{:.0} {}</text>",
                x(second),
                HEIGHT - 8.0,
                second / unit.0,
                unit.1
            );
        }
        let need = steps(seen, &x, &y, |s| s.in_flight / f64::from(s.concurrency));
        let wanted = steps(seen, &x, &y, |s| (s.in_flight + s.waiting) / f64::from(s.concurrency));
        let base = y(0.0);
        let _ = writeln!(out, "<path d=\"M{LEFT} {base:.1}{wanted}V{base:.1}Z\" fill=\"#f3b6a8\"/>");
        let _ = writeln!(out, "<path d=\"M{LEFT} {base:.1}{need}V{base:.1}Z\" fill=\"#9cc3e6\"/>");
        let have = steps(seen, &x, &y, |s| s.instances as f64);
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {base:.1}{have}\" fill=\"none\" stroke=\"#1b4f8a\" stroke-width=\"1.5\"/>"
        );
        out.push_str(
            "<g transform=\"translate(40 24)\"><path d=\"M0 6H18\" stroke=\"#1b4f8a\" stroke-width=\"1.5\"/>\
             <text x=\"24\" y=\"10\">instances</text><rect x=\"100\" width=\"18\" height=\"11\" fill=\"#9cc3e6\"/>\
             <text x=\"124\" y=\"10\">requests in them, in instances full</text>\
             <rect x=\"340\" width=\"18\" height=\"11\" fill=\"#f3b6a8\"/>\
             <text x=\"364\" y=\"10\">requests that wait</text></g>\n</svg>\n",
        );
        out
    }
}

/// About four lines across.
fn ticks(most: usize) -> impl Iterator<Item = usize> {
    let step = [1, 2, 5, 10, 20, 50].into_iter().find(|step| most / step <= 5).unwrap_or(100);
    (0..=most).step_by(step)
}

/// A line in steps through all samples.
fn steps(
    seen: &[Sample],
    x: &impl Fn(f64) -> f64,
    y: &impl Fn(f64) -> f64,
    value: impl Fn(&Sample) -> f64,
) -> String {
    let mut out = String::new();
    let (mut second, mut last) = (0.0, f64::NAN);
    for sample in seen {
        let height = y(value(sample));
        if (height - last).abs() >= 0.5 || last.is_nan() {
            let _ = write!(out, "H{:.1}V{height:.1}", x(second));
            last = height;
        }
        second += sample.length.as_secs_f64();
    }
    let _ = write!(out, "H{:.1}", x(second));
    out
}
