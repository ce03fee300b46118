use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

fn policy(bindings: Value) -> Policy {
    Policy::from_json(&json!({ "bindings": bindings })).unwrap()
}

fn set(policy: &Policy, body: Value) -> Result<Policy, PolicyError> {
    policy.replace(SetRequest::from_json(&body)?, Timestamp::from_second(1_800_000_000).unwrap())
}

fn caller() -> Principal {
    Principal::from_email("caller@demo.iam.gserviceaccount.com")
}

const CALLER: &str = "serviceAccount:caller@demo.iam.gserviceaccount.com";

#[test]
fn a_binding_grants_its_role_to_its_members() {
    let bound = policy(json!([{ "role": "roles/run.invoker", "members": [CALLER] }]));
    assert!(bound.allows(RUN_INVOKE, &caller()));
    assert!(!bound.allows("run.services.get", &caller()));
    assert!(!bound.allows(RUN_INVOKE, &Principal::local()));
    assert!(!bound.allows(RUN_INVOKE, &Principal::Anonymous));
    let public = policy(json!([{ "role": "roles/run.invoker", "members": ["allUsers"] }]));
    assert!(public.allows(RUN_INVOKE, &Principal::Anonymous));
    let known = policy(json!([{ "role": "roles/run.invoker", "members": ["allAuthenticatedUsers"] }]));
    assert!(known.allows(RUN_INVOKE, &caller()) && !known.allows(RUN_INVOKE, &Principal::Anonymous));
    assert!(!Policy::default().allows(RUN_INVOKE, &caller()), "nothing grants nothing");
}

#[test]
fn an_unconditional_binding_outweighs_a_conditional_one() {
    let never = json!({ "title": "never", "expression": "false" });
    let both = policy(json!([
        { "role": "roles/run.invoker", "members": [CALLER], "condition": never },
        { "role": "roles/run.invoker", "members": [CALLER] },
    ]));
    assert_eq!(both.bindings.len(), 2);
    assert!(both.allows(RUN_INVOKE, &caller()));
    let one = policy(json!([{ "role": "roles/run.invoker", "members": [CALLER], "condition": never }]));
    assert!(!one.allows(RUN_INVOKE, &caller()));
}

#[test]
fn ancestors_grant_too_and_convenience_members_look_there() {
    let project = Policy::of_new_project();
    let service = policy(json!([{ "role": "roles/run.invoker", "members": ["projectOwner:demo"] }]));
    let context = Context::now();
    assert!(any_allows([&Policy::default(), &project], RUN_INVOKE, &Principal::local(), &context));
    assert!(!any_allows([&Policy::default(), &project], RUN_INVOKE, &caller(), &context));

    let viewer = policy(json!([{ "role": "roles/viewer", "members": [CALLER] }]));
    let to_viewers = policy(json!([{ "role": "roles/run.invoker", "members": ["projectViewer:demo"] }]));
    assert!(any_allows([&to_viewers, &viewer], RUN_INVOKE, &caller(), &context));
    assert!(!any_allows([&service, &viewer], RUN_INVOKE, &caller(), &context));
    assert!(!any_allows([&to_viewers], RUN_INVOKE, &caller(), &context));
}

#[test]
fn held_permissions_keep_their_order_and_know_no_wildcards() {
    let owner = Policy::of_new_project();
    let asked =
        ["run.services.setIamPolicy", "iam.serviceAccounts.signJwt", "run.services.get"].map(String::from);
    let held = |asked: &[String]| held([&owner], asked, &Principal::local(), &Context::now());
    assert_eq!(held(&asked).unwrap(), ["run.services.setIamPolicy", "run.services.get"]);
    assert!(held(&["run.*".to_owned()]).is_err());
}

#[test]
fn equal_bindings_are_merged_and_repetitions_dropped() {
    let merged = policy(json!([
        { "role": "roles/run.invoker", "members": ["user:B@x.com", CALLER, "user:b@x.com"] },
        { "role": "roles/viewer", "members": [] },
        { "role": "roles/run.invoker", "members": [CALLER, "allUsers"] },
    ]));
    assert_eq!(
        merged.to_json(1)["bindings"],
        json!([{ "role": "roles/run.invoker", "members": ["user:b@x.com", CALLER, "allUsers"] }])
    );
}

#[test]
fn versions() {
    assert_eq!(Policy::default().to_json(3), json!({ "etag": "ACAB" }));
    let plain = policy(json!([{ "role": "roles/run.invoker", "members": ["allUsers"] }]));
    assert_eq!(plain.to_json(3)["version"], 1, "a policy without conditions is version 1");

    let condition = json!({ "title": "t", "description": "d", "expression": "true" });
    let conditional =
        policy(json!([{ "role": "roles/run.invoker", "members": ["allUsers"], "condition": condition }]));
    let whole = conditional.to_json(3);
    assert_eq!((&whole["version"], &whole["bindings"][0]["condition"]), (&json!(3), &condition));
    let cut = conditional.to_json(1);
    assert_eq!(cut["version"], 1);
    assert!(cut["bindings"][0]["role"].as_str().unwrap().starts_with("roles/run.invoker_withcond_"));
    assert!(cut["bindings"][0].get("condition").is_none());

    let bindings = &whole["bindings"];
    assert!(set(&plain, json!({ "policy": { "bindings": bindings, "version": 3 } })).is_ok());
    for version in [0, 1, 2, 4, -1] {
        let refused = set(&plain, json!({ "policy": { "bindings": bindings, "version": version } }));
        assert!(matches!(refused, Err(PolicyError::Invalid { .. })), "{version}");
    }
}

#[test]
fn a_stale_etag_is_a_conflict_and_none_overwrites() {
    let bindings = json!([{ "role": "roles/run.invoker", "members": [CALLER] }]);
    let first =
        set(&Policy::default(), json!({ "policy": { "bindings": bindings, "etag": "ACAB", "version": 3 } }));
    let first = first.unwrap();
    let etag = first.etag.clone().unwrap();
    assert_ne!(etag, FRESH_ETAG);

    let second = set(&first, json!({ "policy": { "etag": etag } })).unwrap();
    assert!(second.bindings.is_empty());
    assert_ne!(second.etag, first.etag, "even within the same microsecond");
    assert_eq!(second.to_json(1), json!({ "etag": second.etag, "version": 1 }));

    // The bytes fb ff, as they were stored, as gcloud sends them back, and without padding.
    let stored = Policy { etag: Some("+/8=".to_owned()), ..second.clone() };
    for spelt in ["+/8=", "-_8=", "-_8", "+/8"] {
        let taken = set(&stored, json!({ "policy": { "bindings": bindings, "etag": spelt } }));
        assert!(taken.is_ok(), "{spelt}: {taken:?}");
    }

    let stale = set(&second, json!({ "policy": { "bindings": bindings, "etag": etag } }));
    assert_eq!(stale, Err(PolicyError::Concurrent));
    assert!(set(&second, json!({ "policy": { "bindings": bindings } })).is_ok());
}

#[test]
fn the_mask_says_what_is_replaced() {
    let audit = json!([{ "service": "allServices" }]);
    let body = |mask: Option<&str>, policy: Value| json!({ "policy": policy, "updateMask": mask });
    let with_audit =
        json!({ "auditConfigs": audit, "bindings": [{ "role": "roles/viewer", "members": [CALLER] }] });
    let plain = set(&Policy::default(), body(None, with_audit.clone())).unwrap();
    assert_eq!(plain.audit_configs, None, "not in the default mask");
    let full = set(&plain, body(Some("bindings,etag,auditConfigs"), with_audit)).unwrap();
    assert_eq!(full.audit_configs, Some(audit));
    let kept = set(&full, body(Some("auditConfigs"), json!({}))).unwrap();
    assert_eq!((kept.bindings.len(), kept.audit_configs), (1, None));
    assert!(set(&full, body(Some("colour"), json!({}))).is_err());
}

#[test]
fn bad_policies_name_the_field() {
    let field = |policy: Value| match SetRequest::from_json(&json!({ "policy": policy })) {
        Err(PolicyError::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(Value::Null), "policy");
    assert_eq!(field(json!([])), "policy");
    assert_eq!(field(json!({ "bindings": {} })), "policy.bindings");
    assert_eq!(field(json!({ "bindings": [{ "role": "invoker" }] })), "policy.bindings[0].role");
    assert_eq!(
        field(json!({ "bindings": [{ "role": "roles/viewer", "members": [CALLER, "me"] }] })),
        "policy.bindings[0].members[1]"
    );
    assert_eq!(
        field(json!({ "bindings": [{ "role": "roles/viewer", "condition": {} }] })),
        "policy.bindings[0].condition"
    );
    assert_eq!(field(json!({ "etag": "?" })), "policy.etag");
    let many: Vec<String> = (0..=MAX_MEMBERS).map(|n| format!("user:u{n}@x.com")).collect();
    assert_eq!(
        field(json!({ "bindings": [{ "role": "roles/viewer", "members": many }] })),
        "policy.bindings"
    );
    let groups: Vec<String> = (0..=MAX_GROUPS).map(|n| format!("group:g{n}@x.com")).collect();
    assert_eq!(
        field(json!({ "bindings": [{ "role": "roles/viewer", "members": groups }] })),
        "policy.bindings"
    );
}

proptest! {
    /// Whatever order and repetition a policy is written in, reading back what was shown changes nothing.
    #[test]
    fn showing_and_reading_is_a_fixed_point(picks in prop::collection::vec((0usize..3, 0usize..4, any::<bool>()), 0..12)) {
        const ROLES: [&str; 3] = ["roles/run.invoker", "roles/viewer", "projects/demo/roles/custom"];
        const MEMBERS: [&str; 4] = ["allUsers", "user:A@x.com", "user:a@x.com", CALLER];
        let bindings: Vec<Value> = picks
            .iter()
            .map(|(role, member, conditional)| {
                let condition = conditional.then(|| json!({ "expression": "true" }));
                json!({ "role": ROLES[*role], "members": [MEMBERS[*member]], "condition": condition })
            })
            .collect();
        let first = policy(Value::Array(bindings));
        let again = Policy::from_json(&first.to_json(3)).unwrap();
        prop_assert_eq!(&again.bindings, &first.bindings);
        let names = |policy: &Policy| {
            policy.bindings.iter().map(|b| (b.role.clone(), b.condition.is_some())).collect::<Vec<_>>()
        };
        let mut unique = names(&first);
        unique.sort();
        unique.dedup();
        prop_assert_eq!(unique.len(), first.bindings.len());
    }
}
