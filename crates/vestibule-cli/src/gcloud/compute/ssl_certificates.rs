//! `gcloud compute ssl-certificates`.

use serde_json::{Map, Value, json};

use super::link::{Kind, Scopes};
use super::verbs;
use crate::gcloud::error::Failure;
use crate::gcloud::files::read_file;
use crate::gcloud::grammar::{Command, Flag, Group, Rule};
use crate::gcloud::invocation::{Display, Invocation};
use crate::secret::Secret;

pub const SSL_CERTIFICATES: Kind =
    Kind { collection: "sslCertificates", scopes: Scopes::GlobalUnlessRegion, plural: "ssl certificates" };

const TABLE: Display = Display::new(
    "table(name,type,creationTimestamp,expireTime,region.basename(),managed.status:label=MANAGED_STATUS)",
);

const NAME: &str = "NAME";

pub fn group() -> Group {
    Group::new("ssl-certificates", "List, create, and delete SSL certificate resources.")
        .command(
            Command::new("create", "Create an SSL certificate resource.", create)
                .arg(NAME, "The name of the certificate.")
                .flags(super::scope_flags())
                .flag(Flag::text("certificate", "A file with the certificate chain, PEM, leaf first.").metavar("LOCAL_FILE_PATH"))
                .flag(Flag::text("private-key", "A file with the private key, PEM, without a passphrase.").metavar("LOCAL_FILE_PATH"))
                .flag(Flag::text("description", "What the certificate is for."))
                .rule(Rule::OneOf(vec![vec!["certificate"], vec!["domains"]]))
                .examples(&["gcloud compute ssl-certificates create my-internal-cert --certificate=path/to/cert.pem --private-key=path/to/key.pem --region=us-central1"]),
        )
        .command(
            Command::new("delete", "Delete SSL certificate resources.", |inv| verbs::delete(inv, &SSL_CERTIFICATES, NAME))
                .args(NAME, "The names of the certificates.")
                .flags(super::scope_flags()),
        )
        .command(
            Command::new("describe", "Describe an SSL certificate resource.", |inv| verbs::describe(inv, &SSL_CERTIFICATES, NAME))
                .arg(NAME, "The name of the certificate.")
                .flags(super::scope_flags()),
        )
        .command(
            Command::new("list", "List SSL certificate resources.", |inv| verbs::list(inv, &SSL_CERTIFICATES, TABLE))
                .flags(super::list_scope_flags()),
        )
}

fn create(inv: &Invocation<'_>) -> Result<(), Failure> {
    let link = SSL_CERTIFICATES.resolve(inv, inv.args.name(NAME))?;
    let certificate = read_file(inv, inv.args.text("certificate").unwrap_or_default())?;
    let Some(key_file) = inv.args.text("private-key") else {
        return Err(Failure::new("argument --private-key: Must be specified."));
    };
    let key = Secret::new(read_file(inv, key_file)?);
    let mut body = Map::new();
    body.insert("name".into(), json!(link.name));
    body.insert("certificate".into(), json!(certificate));
    body.insert("privateKey".into(), json!(key.reveal()));
    if let Some(description) = inv.args.text("description") {
        body.insert("description".into(), json!(description));
    }
    verbs::create(inv, link, Value::Object(body), TABLE)
}
