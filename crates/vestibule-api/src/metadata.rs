//! The metadata server's paths on the API's own port, for tools that are pointed at it with `GCE_METADATA_HOST`.
//!
//! Inside a network the metadata server has a socket of its own, which knows who asks (`metadata_server`). This port
//! knows no networks, so it answers everyone alike: as the default service account of the project that is in use, the
//! first by name if there are several, `demo` if there is none.

use bytes::Bytes;
use http::{Request, Response};
use vestibule_control::Error;
use vestibule_control::run::DEFAULT_LOCATION;
use vestibule_iam::metadata::{self, Identity};
use vestibule_model::project::{default_service_account, project_number};

use crate::answer::refused_plainly;
use crate::metadata_server::respond;
use crate::{Ctx, Registry};

/// The project of a server that nobody has used yet.
const DEFAULT_PROJECT: &str = "demo";

pub(crate) fn register(registry: &mut Registry) {
    registry.path("/", root);
    registry.path("/computeMetadata", answer);
    registry.prefix("/computeMetadata/", answer);
}

/// Clients find out whether there is a metadata server by asking for its root; anyone else finds nothing there.
fn root(ctx: &Ctx<'_>, request: Request<Bytes>) -> Response<Bytes> {
    if request.headers().contains_key("metadata-flavor") {
        return answer(ctx, request);
    }
    refused_plainly(Error::NotFound { message: "The requested URL was not found on this server.".to_owned() })
}

fn answer(ctx: &Ctx<'_>, request: Request<Bytes>) -> Response<Bytes> {
    let headers = request.headers();
    let asked = metadata::Request {
        method: request.method().as_str(),
        target: request.uri().path_and_query().map_or("/", |target| target.as_str()),
        flavor: headers.get("metadata-flavor").and_then(|value| value.to_str().ok()),
        forwarded: headers.contains_key("x-forwarded-for"),
    };
    respond(metadata::answer(asked, &identity(ctx), &ctx.deps().issuer))
}

fn identity(ctx: &Ctx<'_>) -> Identity {
    let project = ctx.api.project_ids().into_iter().next().unwrap_or_else(|| DEFAULT_PROJECT.to_owned());
    let number = project_number(&project).to_string();
    Identity {
        zone: format!("{DEFAULT_LOCATION}-a"),
        instance_name: "vestibule".to_owned(),
        hostname: format!("vestibule.{DEFAULT_LOCATION}-a.c.{project}.internal"),
        ..Identity::cloud_run(&project, &number, DEFAULT_LOCATION, "1", &default_service_account(&project))
    }
}
