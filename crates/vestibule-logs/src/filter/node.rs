//! Tests joined by `AND`, `OR` and `NOT`.

use super::TimeRange;
use super::predicate::Predicate;
use serde_json::Value;

#[derive(Debug, Clone)]
pub(crate) enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Test(Predicate),
}

impl Default for Node {
    /// Matches everything.
    fn default() -> Node {
        Node::And(Vec::new())
    }
}

impl Node {
    /// How deep this recurses is bounded by the parser's limit on nesting.
    pub(crate) fn matches(&self, entry: &Value) -> bool {
        match self {
            Node::And(nodes) => nodes.iter().all(|node| node.matches(entry)),
            Node::Or(nodes) => nodes.iter().any(|node| node.matches(entry)),
            Node::Not(node) => !node.matches(entry),
            Node::Test(predicate) => predicate.matches(entry),
        }
    }

    pub(crate) fn narrow(&self, range: &mut TimeRange) {
        match self {
            Node::And(nodes) => nodes.iter().for_each(|node| node.narrow(range)),
            Node::Or(nodes) if nodes.len() == 1 => nodes[0].narrow(range),
            Node::Test(predicate) => predicate.narrow(range),
            Node::Or(_) | Node::Not(_) => {}
        }
    }

    /// Joins nodes, without a level for one alone.
    pub(crate) fn all(mut nodes: Vec<Node>) -> Node {
        if nodes.len() == 1 { nodes.remove(0) } else { Node::And(nodes) }
    }

    pub(crate) fn any(mut nodes: Vec<Node>) -> Node {
        if nodes.len() == 1 { nodes.remove(0) } else { Node::Or(nodes) }
    }
}
