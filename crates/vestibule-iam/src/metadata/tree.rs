//! What the metadata server knows, as a tree.

use serde_json::{Map, Value, json};

use super::{CLOUD_PLATFORM_SCOPE, Identity};

pub(super) enum Node {
    Folder(Vec<(String, Node)>),
    Leaf {
        text: String,
        /// Its form in recursive answers, where that is not a string.
        json: Option<Value>,
    },
    /// Minted when asked for; not part of recursive answers.
    IdentityToken,
    AccessToken,
}

impl Node {
    pub(super) fn child(&self, name: &str) -> Option<&Node> {
        match self {
            Node::Folder(children) => children.iter().find(|(n, _)| n == name).map(|(_, child)| child),
            _ => None,
        }
    }

    /// What follows its name in a listing.
    pub(super) fn slash(&self) -> &'static str {
        if matches!(self, Node::Folder(_)) { "/" } else { "" }
    }

    /// All below as JSON. Keys are in camel case, except names that are data, such as an address.
    pub(super) fn json(&self) -> Value {
        match self {
            Node::Folder(children) => {
                let shown = children
                    .iter()
                    .filter(|(_, child)| !matches!(child, Node::IdentityToken | Node::AccessToken));
                Value::Object(
                    shown.map(|(name, child)| (camel_case(name), child.json())).collect::<Map<_, _>>(),
                )
            }
            Node::Leaf { text, json } => json.clone().unwrap_or_else(|| text.as_str().into()),
            Node::IdentityToken | Node::AccessToken => Value::Null,
        }
    }
}

/// Everything below `/computeMetadata/v1/`, in alphabetical order as listings show it.
pub(super) fn of(identity: &Identity) -> Node {
    let number = &identity.project_number;
    let mut instance = vec![entry("attributes", Node::Folder(Vec::new()))];
    if !identity.hostname.is_empty() {
        instance.push(text("hostname", &identity.hostname));
    }
    instance.push(text("id", &identity.instance_id));
    if !identity.instance_name.is_empty() {
        instance.push(text("name", &identity.instance_name));
    }
    instance.push(text("region", &format!("projects/{number}/regions/{}", identity.region)));
    instance.push(entry("service-accounts", service_accounts(&identity.service_account)));
    instance.push(text("zone", &format!("projects/{number}/zones/{}", identity.zone)));

    let numeric = number.parse::<u64>().ok().map(Value::from);
    let project = vec![
        entry("attributes", Node::Folder(Vec::new())),
        entry("numeric-project-id", Node::Leaf { text: number.clone(), json: numeric }),
        text("project-id", &identity.project_id),
    ];
    Node::Folder(vec![
        entry("instance", Node::Folder(instance)),
        entry("project", Node::Folder(project)),
        entry("universe", Node::Folder(vec![text("universe-domain", "googleapis.com")])),
    ])
}

/// One account, under its address and as `default`.
fn service_accounts(email: &str) -> Node {
    let account = || {
        let list = |items: &[&str]| Node::Leaf {
            text: items.iter().map(|item| format!("{item}\n")).collect(),
            json: Some(json!(items)),
        };
        Node::Folder(vec![
            entry("aliases", list(&["default"])),
            text("email", email),
            entry("identity", Node::IdentityToken),
            entry("scopes", list(&[CLOUD_PLATFORM_SCOPE])),
            entry("token", Node::AccessToken),
        ])
    };
    Node::Folder(vec![entry("default", account()), entry(email, account())])
}

fn entry(name: &str, node: Node) -> (String, Node) {
    (name.to_owned(), node)
}

fn text(name: &str, text: &str) -> (String, Node) {
    entry(name, Node::Leaf { text: text.to_owned(), json: None })
}

fn camel_case(name: &str) -> String {
    if name.contains('@') {
        return name.to_owned();
    }
    let mut parts = name.split('-');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut chars = part.chars();
        out.extend(chars.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(chars.as_str());
    }
    out
}
