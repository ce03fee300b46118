//! Identity and Access Management v1: service accounts and their keys.

use serde_json::Value;
use vestibule_control::Error;
use vestibule_control::iam::{Iam, PAGE_LIMIT};
use vestibule_model::Service;

use crate::{Call, Ctx, Registry, Reply, list, policies};

/// Accounts on a page if the client names no number.
const PAGE_SIZE: usize = 20;

pub(crate) fn register(registry: &mut Registry) {
    registry
        .service(Service::Iam)
        .add("iam.projects.serviceAccounts.create", create)
        .add("iam.projects.serviceAccounts.get", get)
        .add("iam.projects.serviceAccounts.list", list_accounts)
        .add("iam.projects.serviceAccounts.patch", patch)
        .add("iam.projects.serviceAccounts.update", update)
        .add("iam.projects.serviceAccounts.delete", delete)
        .add("iam.projects.serviceAccounts.enable", enable)
        .add("iam.projects.serviceAccounts.disable", disable)
        .add("iam.projects.serviceAccounts.getIamPolicy", get_policy)
        .add("iam.projects.serviceAccounts.setIamPolicy", set_policy)
        .add("iam.projects.serviceAccounts.testIamPermissions", test_permissions)
        .add("iam.projects.serviceAccounts.keys.create", create_key)
        .add("iam.projects.serviceAccounts.keys.get", get_key)
        .add("iam.projects.serviceAccounts.keys.list", list_keys)
        .add("iam.projects.serviceAccounts.keys.delete", delete_key)
        .add("iam.projects.serviceAccounts.keys.enable", enable_key)
        .add("iam.projects.serviceAccounts.keys.disable", disable_key);
}

pub(crate) fn iam<'a>(ctx: &'a Ctx<'_>) -> Iam<'a> {
    ctx.control().iam(&ctx.deps().issuer)
}

fn account(call: &Call) -> &str {
    call.param("serviceAccountsId")
}

fn create(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(iam(ctx).create_account(call.project(), call.body())?.into())
}

fn get(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(iam(ctx).account(call.project(), account(&call))?.into())
}

fn list_accounts(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let accounts = iam(ctx).accounts(call.project());
    let key = |account: &Value| account["email"].as_str().unwrap_or_default().to_owned();
    Ok(list::google(&call, "accounts", PAGE_SIZE, PAGE_LIMIT, accounts, key)?.into())
}

fn patch(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(iam(ctx).patch_account(call.project(), account(&call), call.body())?.into())
}

fn update(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(iam(ctx).update_account(call.project(), account(&call), call.body())?.into())
}

fn delete(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    iam(ctx).delete_account(call.project(), account(&call))?;
    Ok(Reply::empty())
}

fn enable(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    iam(ctx).set_account_disabled(call.project(), account(&call), false)?;
    Ok(Reply::empty())
}

fn disable(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    iam(ctx).set_account_disabled(call.project(), account(&call), true)?;
    Ok(Reply::empty())
}

fn get_policy(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let version = policies::requested_version(call.query("options.requestedPolicyVersion"));
    Ok(iam(ctx).account_policy(call.project(), account(&call), version)?.into())
}

fn set_policy(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let request = Value::Object(call.body().clone());
    Ok(iam(ctx).set_account_policy(call.project(), account(&call), &request)?.into())
}

fn test_permissions(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let permissions = policies::permissions(call.body());
    Ok(iam(ctx)
        .test_account_permissions(call.project(), account(&call), &permissions, ctx.principal())?
        .into())
}

/// The key file's `token_uri` leads back to the endpoint that was called: whoever has the file need not be told.
fn create_key(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let token_uri = format!("{}/token", ctx.base_url());
    Ok(iam(ctx).create_key(call.project(), account(&call), call.body(), &token_uri)?.into())
}

fn get_key(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let key =
        iam(ctx).key(call.project(), account(&call), call.param("keysId"), call.query("publicKeyType"))?;
    Ok(key.into())
}

fn list_keys(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let mut wanted = call.query_all("keyTypes").peekable();
    if wanted.peek().is_some() && !wanted.any(|kind| kind == "USER_MANAGED") {
        // Keys that the system manages are not told of.
        return Ok(Reply::empty());
    }
    drop(wanted);
    Ok(iam(ctx).keys(call.project(), account(&call))?.into())
}

fn delete_key(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    iam(ctx).delete_key(call.project(), account(&call), call.param("keysId"))?;
    Ok(Reply::empty())
}

fn enable_key(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    iam(ctx).set_key_disabled(call.project(), account(&call), call.param("keysId"), false)?;
    Ok(Reply::empty())
}

fn disable_key(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    iam(ctx).set_key_disabled(call.project(), account(&call), call.param("keysId"), true)?;
    Ok(Reply::empty())
}
