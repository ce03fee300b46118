//! The tour, step by step.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::certificate::{self, FILES};
use super::client::{self, Client, Trust};
use super::cloud::Cloud;
use super::show::{Show, short};
use crate::http::Api;
use crate::printer::Printer;
use crate::secret::Secret;
use crate::settings::Environment;
use crate::vm::Lease;
use crate::{explain, gcloud};

const PROJECT: &str = "tour";
const REGION: &str = "us-central1";
const VIP: &str = "10.0.0.100";
const TLS_VIP: &str = "10.0.0.101";
const NAME: &str = "api.internal.example.com";
const TLS_NAME: &str = "secure.internal.example.com";
/// Under this host the URL's first segment names the service.
const BY_NAME: &str = "services.internal.example.com";
const CALLER: &str = "caller@tour.iam.gserviceaccount.com";

/// A service, and how the set-up names what stands before it.
struct Service {
    name: &'static str,
    neg: &'static str,
    backend: &'static str,
}

const SERVICES: [Service; 3] = [
    Service { name: "my-internal-service", neg: "my-serverless-neg", backend: "my-internal-backend" },
    Service { name: "my-api-service", neg: "my-api-neg", backend: "my-api-backend" },
    Service { name: "my-web-service", neg: "my-web-neg", backend: "my-web-backend" },
];

/// How long log entries may take to be found.
const LOG_LIMIT: Duration = Duration::from_secs(10);

/// The tour and its world.
pub struct Tour<'p> {
    cloud: Cloud,
    environment: Environment,
    pub show: Show<'p>,
}

impl<'p> Tour<'p> {
    pub fn new(cloud: Cloud, printer: &'p Printer) -> Tour<'p> {
        let mut environment = Environment::default();
        environment.folder = Some(cloud.work.clone());
        environment.set("VESTIBULE_API", &cloud.api);
        environment.set("CLOUDSDK_CORE_PROJECT", PROJECT);
        environment.set("CLOUDSDK_CORE_DISABLE_PROMPTS", "1");
        environment.set("CLOUDSDK_CONFIG", cloud.work.join("gcloud").display().to_string());
        Tour { cloud, environment, show: Show::new(printer) }
    }

    /// All steps. The first that does not do what it should ends it.
    pub fn walk(&mut self, keep: bool) -> Result<(), String> {
        self.show.heading("A private cloud");
        self.show.line(&format!("serve is ready after {}: {}", short(self.cloud.started_in), self.cloud.api));
        let begun = Instant::now();
        let certificate = self.set_up()?;
        let took = begun.elapsed();
        self.show.line(&format!("\nThe whole set-up took {}.", short(took)));
        self.try_out(&certificate)?;
        self.read_logs()?;
        if !keep {
            self.take_down()?;
        }
        self.show.heading("Every step did what it should");
        self.show.line(&format!("Set-up: {}.", short(took)));
        Ok(())
    }

    /// Ends the cloud, or leaves it running and says how to use it.
    pub fn end(mut self, keep: bool) -> Result<(), String> {
        if !keep {
            return self.cloud.stop();
        }
        self.cloud.keep();
        let (api, pid) = (&self.cloud.api, self.cloud.pid());
        self.show.line(&format!("\nThe cloud is still running (process {pid}). Use it with:"));
        self.show.line(&format!("  eval \"$(vestibule env --api {api} --project {PROJECT})\""));
        self.show.line("  vestibule gcloud compute forwarding-rules list");
        self.show.line(&format!(
            "  vestibule vm run --network my-vpc --subnet my-subnet -- curl -i http://{VIP}/"
        ));
        self.show.line(&format!("End it with `kill {pid}`; its folder is {}.", self.cloud.work.display()));
        Ok(())
    }

    /// Runs one gcloud command, shows it, and gives what it printed on stdout.
    fn gcloud(&self, command: &str) -> Result<String, String> {
        let (stdout, stderr, took) = self.quiet(command)?;
        self.show.command(&format!("gcloud {command}"), &format!("{stderr}{stdout}"), took);
        Ok(stdout)
    }

    /// Runs one gcloud command without showing it.
    fn quiet(&self, command: &str) -> Result<(String, String, Duration), String> {
        let words = split(command);
        let printer = Printer::captured();
        let begun = Instant::now();
        let code = gcloud::run(&words, &self.environment, &printer);
        let took = begun.elapsed();
        let (stdout, stderr) = printer.into_captured();
        match code {
            0 => Ok((stdout, stderr, took)),
            code => Err(format!("gcloud {command}\nended with {code}: {}", stderr.trim())),
        }
    }

    /// The published set-up. Gives the certificate that clients are to trust.
    fn set_up(&self) -> Result<String, String> {
        self.show.heading("The network");
        self.gcloud("compute networks create my-vpc --subnet-mode=custom")?;
        self.gcloud(&format!(
            "compute networks subnets create my-subnet --network=my-vpc --range=10.0.0.0/24 --region={REGION}"
        ))?;

        self.show.heading("The services");
        for service in &SERVICES {
            self.gcloud(&format!(
                "run deploy {} --image=gcr.io/cloudrun/hello --region={REGION} --no-allow-unauthenticated \
                 --ingress=internal-and-cloud-load-balancing",
                service.name
            ))?;
        }

        self.show.heading("1. Proxy-only subnet");
        self.gcloud(&format!(
            "compute networks subnets create proxy-only-subnet --purpose=REGIONAL_MANAGED_PROXY --role=ACTIVE --region={REGION} \
             --network=my-vpc --range=10.129.0.0/23"
        ))?;

        self.show.heading("2. Serverless network endpoint groups");
        for service in &SERVICES {
            self.gcloud(&format!(
                "compute network-endpoint-groups create {} --region={REGION} --network-endpoint-type=serverless \
                 --cloud-run-service={}",
                service.neg, service.name
            ))?;
        }
        self.gcloud(&format!(
            "compute network-endpoint-groups create my-flexible-neg --region={REGION} --network-endpoint-type=serverless \
             --cloud-run-url-mask=\"<service>\""
        ))?;

        self.show.heading("3. Backend services");
        for service in &SERVICES {
            self.backend(service.backend, service.neg)?;
        }
        self.backend("my-flexible-backend", "my-flexible-neg")?;

        self.show.heading("4. URL map");
        self.gcloud(&format!("compute url-maps create my-internal-url-map --default-service=my-internal-backend --region={REGION}"))?;
        self.gcloud(&format!(
            "compute url-maps add-path-matcher my-internal-url-map --path-matcher-name=my-matcher \
             --default-service=my-internal-backend --path-rules=\"/api/*=my-api-backend,/web/*=my-web-backend\" --region={REGION}"
        ))?;
        self.gcloud(&format!(
            "compute url-maps add-path-matcher my-internal-url-map --path-matcher-name=by-name \
             --default-service=my-flexible-backend --new-hosts={BY_NAME} --region={REGION}"
        ))?;

        self.show.heading("5. Target proxies");
        self.gcloud(&format!("compute target-http-proxies create my-internal-proxy --url-map=my-internal-url-map --region={REGION}"))?;
        let certificate = certificate::write(&self.cloud.work, &[TLS_NAME])?;
        self.gcloud(&format!(
            "compute ssl-certificates create my-internal-cert --certificate={} --private-key={} --region={REGION}",
            FILES.certificate, FILES.key
        ))?;
        self.gcloud(&format!(
            "compute target-https-proxies create my-internal-https-proxy --url-map=my-internal-url-map \
             --ssl-certificates=my-internal-cert --region={REGION}"
        ))?;

        self.show.heading("6. Forwarding rules");
        for Rule { name, address, port, kind, proxy } in &RULES {
            self.gcloud(&format!(
                "compute forwarding-rules create {name} --load-balancing-scheme=INTERNAL_MANAGED --network=my-vpc \
                 --subnet=my-subnet --address={address} --ports={port} --region={REGION} --target-{kind}-proxy={proxy} \
                 --target-{kind}-proxy-region={REGION}"
            ))?;
        }

        self.show.heading("7. Private DNS");
        self.gcloud("dns managed-zones create internal-zone --dns-name=internal.example.com. --visibility=private --networks=my-vpc")?;
        for (name, address) in RECORDS {
            self.gcloud(&format!(
                "dns record-sets create {name}. --zone=internal-zone --type=A --ttl=300 --rrdatas={address}"
            ))?;
        }
        Ok(certificate)
    }

    /// A backend service over one endpoint group, with logging.
    fn backend(&self, name: &str, neg: &str) -> Result<(), String> {
        self.gcloud(&format!(
            "compute backend-services create {name} --load-balancing-scheme=INTERNAL_MANAGED --protocol=HTTP --region={REGION}"
        ))?;
        self.gcloud(&format!(
            "compute backend-services add-backend {name} --network-endpoint-group={neg} --network-endpoint-group-region={REGION} \
             --region={REGION}"
        ))?;
        self.gcloud(&format!("compute backend-services update {name} --enable-logging --logging-sample-rate=1.0 --region={REGION}"))?;
        Ok(())
    }

    /// Requests as a client inside the VPC, and one from outside.
    fn try_out(&self, certificate: &str) -> Result<(), String> {
        self.show.heading("A client inside the VPC");
        let wish = json!({"project": PROJECT, "network": "my-vpc", "subnet": "my-subnet", "region": REGION});
        let lease = Lease::open(&self.cloud.api, &wish)?;
        let client = Client::new(&lease.vm)?;
        let bundle = std::fs::read_to_string(&lease.vm.ca_bundle).unwrap_or_default();
        let trust = client::trust(&[certificate, &bundle])?;
        self.show.line(&format!("It has the address {} of my-subnet.", client.address));
        let ask = |what: &str, url: &str, token: Option<&Secret>, status: u16, service: Option<&str>| {
            self.ask(&client, &trust, &Question { what, url, token, status, service })
        };
        ask("without a token", &format!("http://{VIP}/"), None, 403, None)?;

        self.show.heading("A service account that may call");
        self.gcloud("iam service-accounts create caller --display-name=Caller")?;
        let mut tokens = Vec::new();
        for service in &SERVICES {
            self.gcloud(&format!(
                "run services add-iam-policy-binding {} --region={REGION} --member=serviceAccount:{CALLER} --role=roles/run.invoker",
                service.name
            ))?;
            let url = self.gcloud(&format!(
                "run services describe {} --region={REGION} --format='value(status.url)'",
                service.name
            ))?;
            tokens.push((url.trim().to_owned(), self.token(url.trim())?));
        }
        let [internal, api, web] = tokens.as_slice() else {
            return Err("three services were expected".to_owned());
        };

        self.show.heading("With a token");
        ask(
            "default service",
            &format!("http://{VIP}/"),
            Some(&internal.1),
            200,
            Some("my-internal-service"),
        )?;
        ask(
            "path rule /api/*",
            &format!("http://{VIP}/api/items"),
            Some(&api.1),
            200,
            Some("my-api-service"),
        )?;
        ask("path rule /web/*", &format!("http://{VIP}/web/"), Some(&web.1), 200, Some("my-web-service"))?;
        ask("another service's token", &format!("http://{VIP}/api/items"), Some(&web.1), 401, None)?;
        ask("by DNS name", &format!("http://{NAME}/"), Some(&internal.1), 200, Some("my-internal-service"))?;
        ask("over HTTPS", &format!("https://{TLS_NAME}/api/"), Some(&api.1), 200, Some("my-api-service"))?;
        let url = format!("http://{BY_NAME}/my-web-service/x");
        ask("service named in the URL", &url, Some(&web.1), 200, Some("my-web-service"))?;

        self.show.heading("The default URL");
        ask("from inside the VPC", &internal.0, Some(&internal.1), 200, Some("my-internal-service"))?;
        self.refused_outside(&internal.0, &internal.1, &trust)?;
        self.explain(&format!("http://{VIP}/api/items"))
    }

    fn token(&self, audience: &str) -> Result<Secret, String> {
        let command = format!(
            "auth print-identity-token --impersonate-service-account={CALLER} --audiences={audience} --include-email"
        );
        let (token, _, took) = self.quiet(&command)?;
        let secret = Secret::new(token.trim());
        self.show.command(&format!("gcloud {command}"), &secret.to_string(), took);
        Ok(secret)
    }

    fn ask(&self, client: &Client, trust: &Trust, question: &Question<'_>) -> Result<(), String> {
        let begun = Instant::now();
        let reply = client
            .get(question.url, question.token, trust)
            .map_err(|error| format!("GET {}: {error}", question.url))?;
        self.show.request(question.what, question.url, &reply, question.status, begun.elapsed());
        if reply.status != question.status {
            return Err(format!(
                "GET {} answered {}, not {}: {}",
                question.url,
                reply.status,
                question.status,
                reply.body.trim()
            ));
        }
        let served = serde_json::from_str::<Value>(&reply.body)
            .ok()
            .and_then(|body| body.get("service")?.as_str().map(str::to_owned));
        match question.service {
            Some(service) if served.as_deref() != Some(service) => Err(format!(
                "GET {} was answered by {}, not {service}",
                question.url,
                served.as_deref().unwrap_or("nobody")
            )),
            _ => Ok(()),
        }
    }

    /// `internal-and-cloud-load-balancing` keeps callers of the default URL out, token or not.
    fn refused_outside(&self, url: &str, token: &Secret, trust: &Trust) -> Result<(), String> {
        let api = Api::new(&self.cloud.api, Secret::new("local"));
        let status = api.get("/vestibule/v1/status").map_err(|error| error.to_string())?;
        let front = status
            .body
            .get("front")
            .and_then(Value::as_str)
            .ok_or("the API does not tell where default URLs are served")?;
        let begun = Instant::now();
        let reply = client::get_from_outside(url, front, Some(token), trust)
            .map_err(|error| format!("GET {url}: {error}"))?;
        self.show.request("from outside", url, &reply, 404, begun.elapsed());
        match reply.status {
            404 => Ok(()),
            status => Err(format!("GET {url} from outside answered {status}, not 404")),
        }
    }

    fn explain(&self, url: &str) -> Result<(), String> {
        self.show.heading("Why a request goes where it goes");
        let api = Api::new(&self.cloud.api, Secret::new("local"));
        let question = json!({"url": url, "method": "GET", "headers": [], "network": format!("projects/{PROJECT}/global/networks/my-vpc")});
        let begun = Instant::now();
        let answer = api.post("/vestibule/v1/explain", &question).map_err(|error| error.to_string())?;
        if !answer.is_success() {
            return Err(format!("explain: {}", answer.error_message()));
        }
        let text = explain::text(&answer.body, self.show.printer());
        self.show.command(&format!("vestibule explain {url} --network my-vpc"), &text, begun.elapsed());
        let service = answer.body.get("service").and_then(Value::as_str);
        let refused_by = answer.body.get("refusedBy").and_then(Value::as_str);
        match (service, refused_by) {
            (Some("my-api-service"), Some("identity")) => Ok(()),
            _ => Err(format!("explain should tell of my-api-service and a missing token: {}", answer.body)),
        }
    }

    /// The entries of the requests above.
    fn read_logs(&self) -> Result<(), String> {
        self.show.heading("The log");
        let filter = "resource.type=\"internal_http_lb_rule\" AND resource.labels.forwarding_rule_name=\"my-internal-lb-rule\"";
        let command = format!(
            "logging read '{filter}' --limit=20 --format='value(httpRequest.status,httpRequest.requestUrl)'"
        );
        let begun = Instant::now();
        loop {
            let (stdout, _, took) = self.quiet(&command)?;
            let has = |start: &str| stdout.lines().any(|line| line.starts_with(start));
            if has("200") && has("403") && has("401") {
                self.show.command(&format!("gcloud {command}"), &stdout, took);
                return Ok(());
            }
            if begun.elapsed() > LOG_LIMIT {
                return Err(format!("the log lacks entries of the requests above:\n{stdout}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Everything away again, in the order that references allow.
    fn take_down(&self) -> Result<(), String> {
        self.show.heading("Taking it down");
        for (name, _) in RECORDS {
            self.gcloud(&format!("dns record-sets delete {name}. --zone=internal-zone --type=A"))?;
        }
        self.gcloud("dns managed-zones delete internal-zone")?;
        let regional =
            |what: &str, name: &str| self.gcloud(&format!("compute {what} delete {name} --region={REGION}"));
        for rule in &RULES {
            regional("forwarding-rules", rule.name)?;
        }
        regional("target-http-proxies", "my-internal-proxy")?;
        regional("target-https-proxies", "my-internal-https-proxy")?;
        regional("ssl-certificates", "my-internal-cert")?;
        regional("url-maps", "my-internal-url-map")?;
        let groups = SERVICES
            .iter()
            .map(|service| (service.backend, service.neg))
            .chain([("my-flexible-backend", "my-flexible-neg")]);
        for (backend, neg) in groups {
            regional("backend-services", backend)?;
            regional("network-endpoint-groups", neg)?;
        }
        for service in &SERVICES {
            self.gcloud(&format!("run services delete {} --region={REGION}", service.name))?;
        }
        self.gcloud(&format!("iam service-accounts delete {CALLER}"))?;
        regional("networks subnets", "my-subnet")?;
        regional("networks subnets", "proxy-only-subnet")?;
        self.gcloud("compute networks delete my-vpc")?;
        Ok(())
    }
}

/// A forwarding rule.
struct Rule {
    name: &'static str,
    address: &'static str,
    port: u16,
    /// The kind of its proxy, as in `--target-KIND-proxy`.
    kind: &'static str,
    proxy: &'static str,
}

/// Two rules on one address would need a shared one; each has its own.
const RULES: [Rule; 2] = [
    Rule { name: "my-internal-lb-rule", address: VIP, port: 80, kind: "http", proxy: "my-internal-proxy" },
    Rule {
        name: "my-internal-https-rule",
        address: TLS_VIP,
        port: 443,
        kind: "https",
        proxy: "my-internal-https-proxy",
    },
];

/// Names of the private zone.
const RECORDS: [(&str, &str); 3] = [(NAME, VIP), (BY_NAME, VIP), (TLS_NAME, TLS_VIP)];

struct Question<'q> {
    what: &'q str,
    url: &'q str,
    token: Option<&'q Secret>,
    status: u16,
    /// Who must have answered.
    service: Option<&'q str>,
}

/// The words of a command line; quotes hold words together.
fn split(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, ' ') if !word.is_empty() => words.push(std::mem::take(&mut word)),
            (None, ' ') => {}
            (_, c) => word.push(c),
        }
    }
    words.push(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_quotes() {
        assert_eq!(split("a --b=\"<c> d\" 'e f'"), ["a", "--b=<c> d", "e f"]);
        assert_eq!(split("read 'a=\"b\" AND c' --d"), ["read", "a=\"b\" AND c", "--d"]);
    }
}
