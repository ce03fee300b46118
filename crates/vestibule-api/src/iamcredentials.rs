//! IAM Service Account Credentials v1.

use serde_json::Value;
use vestibule_control::Error;
use vestibule_control::iam::IdTokenRequest;
use vestibule_model::Service;

use crate::iam::iam;
use crate::{Call, Ctx, Registry, Reply};

pub(crate) fn register(registry: &mut Registry) {
    registry
        .service(Service::Iamcredentials)
        .add("iamcredentials.projects.serviceAccounts.generateAccessToken", access_token)
        .add("iamcredentials.projects.serviceAccounts.generateIdToken", id_token)
        .add("iamcredentials.projects.serviceAccounts.signBlob", sign_blob)
        .add("iamcredentials.projects.serviceAccounts.signJwt", sign_jwt);
}

/// The account of a call. Its project must be written as `-`.
fn account(call: &Call) -> Result<&str, Error> {
    match call.project() {
        "-" => Ok(call.param("serviceAccountsId")),
        project => Err(Error::invalid("name", project, "The project must be given as '-'.")),
    }
}

fn access_token(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(iam(ctx).generate_access_token(ctx.principal(), account(&call)?, call.body())?.into())
}

fn id_token(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    let body = Value::Object(call.body().clone());
    let flag = |field: &str| body[field].as_bool().unwrap_or(false);
    let delegates = body["delegates"].as_array().into_iter().flatten();
    let request = IdTokenRequest {
        audience: body["audience"].as_str().unwrap_or_default().to_owned(),
        include_email: flag("includeEmail"),
        delegates: delegates.filter_map(|delegate| delegate.as_str().map(str::to_owned)).collect(),
        use_email_azp: flag("useEmailAzp"),
    };
    Ok(iam(ctx).generate_id_token(ctx.principal(), account(&call)?, &request)?.into())
}

fn sign_blob(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(iam(ctx).sign_blob(ctx.principal(), account(&call)?, call.body())?.into())
}

fn sign_jwt(ctx: &Ctx<'_>, call: Call) -> Result<Reply, Error> {
    Ok(iam(ctx).sign_jwt(ctx.principal(), account(&call)?, call.body())?.into())
}
