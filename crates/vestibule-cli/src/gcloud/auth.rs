//! `gcloud auth`: tokens.

use serde_json::{Value, json};

use super::error::Failure;
use super::grammar::{Command, Flag, Group};
use super::invocation::{Display, Invocation};
use crate::secret::Secret;
use crate::settings::DEFAULT_ACCOUNT;

/// The scopes that gcloud asks for when it acts as a service account.
const SCOPES: &[&str] = &[
    "openid",
    "https://www.googleapis.com/auth/userinfo.email",
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/appengine.admin",
    "https://www.googleapis.com/auth/sqlservice.login",
    "https://www.googleapis.com/auth/compute",
];

const TABLE: Display =
    Display::new("table[title='Credentialed Accounts'](status.yesno(yes='*',no=''):label=ACTIVE,account)");

pub fn group() -> Group {
    Group::new("auth", "Print and look at credentials.")
        .command(
            Command::new("print-identity-token", "Print an identity token.", print_identity_token)
                .about(
                    "A caller of a private service sends it as `Authorization: Bearer TOKEN`. The audience is the service's URL; only a \
                     service account may ask for one, so --audiences goes with --impersonate-service-account.",
                )
                .optional_arg("ACCOUNT", "Accepted; the token decides who you are.")
                .flag(Flag::text("audiences", "Whom the token is for: the URL of a service."))
                .flag(Flag::switch("include-email", "Puts the account's address into the token."))
                .examples(&[
                    "gcloud auth print-identity-token",
                    "gcloud auth print-identity-token --impersonate-service-account=caller@my-project.iam.gserviceaccount.com --audiences=https://my-service-1234.us-central1.run.app --include-email",
                ]),
        )
        .command(
            Command::new("print-access-token", "Print an access token.", print_access_token)
                .optional_arg("ACCOUNT", "Accepted; the token decides who you are."),
        )
        .command(Command::new("list", "Lists credentialed accounts.", list).flags(super::tree::list_flags()))
}

fn print_identity_token(inv: &Invocation<'_>) -> Result<(), Failure> {
    let audience = inv.args.text("audiences");
    let token = match (inv.args.text("impersonate-service-account"), audience) {
        (Some(account), Some(audience)) => impersonated_identity_token(inv, account, audience)?,
        (Some(account), None) => {
            impersonated_identity_token(inv, account, "32555940559.apps.googleusercontent.com")?
        }
        (None, Some(_)) => {
            return Err(Failure::new(
                "Invalid account type for `--audiences`. Requires valid service account.",
            ));
        }
        (None, None) if has_fixed_token(inv) => {
            return Err(Failure::new("No identity token can be obtained from the current credentials."));
        }
        (None, None) => refreshed(inv, "id_token")?,
    };
    inv.printer.line(token.reveal());
    Ok(())
}

/// The identity token with which the caller calls a service: the account's own, or, of an account that is stood in for,
/// one that is meant for the service's URL.
pub fn token_for(inv: &Invocation<'_>, url: &str) -> Result<Secret, Failure> {
    match inv.args.text("impersonate-service-account") {
        Some(account) => impersonated_identity_token(inv, account, url),
        None if has_fixed_token(inv) => {
            Err(Failure::new("No identity token can be obtained from the current credentials."))
        }
        None => refreshed(inv, "id_token"),
    }
}

fn print_access_token(inv: &Invocation<'_>) -> Result<(), Failure> {
    let token = match has_fixed_token(inv) || inv.args.has("impersonate-service-account") {
        true => inv.api.token().clone(),
        false => refreshed(inv, "access_token")?,
    };
    inv.printer.line(token.reveal());
    Ok(())
}

/// Whether the access token is one that was given; it says nothing about who its owner is.
fn has_fixed_token(inv: &Invocation<'_>) -> bool {
    let in_file =
        inv.args.has("access-token-file") || inv.properties.get("auth", "access_token_file").is_some();
    in_file || inv.environment.get("CLOUDSDK_AUTH_ACCESS_TOKEN").is_some()
}

/// What the token endpoint gives the local user.
fn refreshed(inv: &Invocation<'_>, field: &str) -> Result<Secret, Failure> {
    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", "vestibule"),
        ("client_secret", "local"),
        ("refresh_token", "local"),
    ];
    let answer = inv.api.post_form("/token", &fields)?;
    match answer.body.get(field).and_then(Value::as_str) {
        Some(token) if answer.is_success() => Ok(Secret::new(token)),
        _ if answer.is_success() => {
            Err(Failure::new("No identity token can be obtained from the current credentials."))
        }
        _ => Err(Failure::new(answer.error_message())),
    }
}

fn impersonate(
    inv: &Invocation<'_>,
    account: &str,
    method: &str,
    body: Value,
    field: &str,
) -> Result<Secret, Failure> {
    let path = format!("/v1/projects/-/serviceAccounts/{}:{method}", super::segment(account));
    let answer = inv.api.post(&path, &body)?;
    match answer.body.get(field).and_then(Value::as_str) {
        Some(token) if answer.is_success() => Ok(Secret::new(token)),
        _ => Err(Failure::new(format!("Failed to impersonate [{account}]. {}", answer.error_message()))),
    }
}

pub fn impersonated_access_token(inv: &Invocation<'_>, account: &str) -> Result<Secret, Failure> {
    let body = json!({"delegates": null, "scope": SCOPES, "lifetime": "3600s"});
    impersonate(inv, account, "generateAccessToken", body, "accessToken")
}

fn impersonated_identity_token(
    inv: &Invocation<'_>,
    account: &str,
    audience: &str,
) -> Result<Secret, Failure> {
    let body = json!({"audience": audience, "delegates": null, "includeEmail": inv.args.on("include-email")});
    impersonate(inv, account, "generateIdToken", body, "token")
}

fn list(inv: &Invocation<'_>) -> Result<(), Failure> {
    let account = inv.properties.get("core", "account").unwrap_or(DEFAULT_ACCOUNT);
    inv.list(vec![json!({"account": account, "status": "ACTIVE"})], TABLE)?;
    if inv.is_default_format() {
        inv.status("\nTo set the active account, run:\n    $ gcloud config set account `ACCOUNT`\n");
    }
    Ok(())
}
