//! A bar chart as SVG: CPU a request, a group of bars a work, as ratios to the dearest of the group.

use std::fmt::Write;

use super::peers::Peer;
use super::table::{Row, micros};

const WIDTH: usize = 900;
const LABEL: usize = 320;
const BAR: usize = 12;
const GAP: usize = 14;
const FONT: &str = "font-family=\"sans-serif\" font-size=\"11\"";

fn colour(peer: Peer) -> &'static str {
    match peer {
        Peer::Vestibule => "#1b6ca8",
        Peer::Nginx => "#7aa874",
        Peer::HaProxy => "#d9a441",
        Peer::Envoy => "#b05f6d",
    }
}

/// The rows as a chart.
pub fn svg(rows: &[Row]) -> String {
    let mut body = String::new();
    let mut y = 40;
    let mut x = LABEL;
    for peer in [Peer::Vestibule, Peer::Nginx, Peer::HaProxy, Peer::Envoy] {
        let _ = write!(
            body,
            "<rect x=\"{x}\" y=\"12\" width=\"12\" height=\"12\" fill=\"{}\"/><text x=\"{}\" y=\"22\" {FONT}>{}</text>",
            colour(peer),
            x + 16,
            peer.name()
        );
        x += 110;
    }
    for group in rows.chunk_by(|a, b| a.work.name == b.work.name) {
        let dearest = group.iter().map(|row| micros(row.sample.cpu_per_request)).fold(0.0, f64::max);
        let _ = write!(body, "<text x=\"8\" y=\"{}\" {FONT}>{}</text>", y + BAR, group[0].work.name);
        for row in group {
            let cost = micros(row.sample.cpu_per_request);
            let length = (cost / dearest * (WIDTH - LABEL - 90) as f64) as usize;
            let _ = write!(
                body,
                "<rect x=\"{LABEL}\" y=\"{y}\" width=\"{length}\" height=\"{BAR}\" fill=\"{}\"/>\
                 <text x=\"{}\" y=\"{}\" {FONT}>{cost:.1} µs</text>",
                colour(row.peer),
                LABEL + length + 6,
                y + BAR - 2
            );
            y += BAR + 2;
        }
        y += GAP;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" viewBox=\"0 0 {WIDTH} {y}\">\
         <title>CPU a request</title><rect width=\"100%\" height=\"100%\" fill=\"white\"/>{body}</svg>\n"
    )
}
