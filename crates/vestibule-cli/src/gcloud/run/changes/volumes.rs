//! Volumes, mounts, and secrets as variables and files.
//!
//! Secrets as files are volumes whose names nobody chooses: one volume a folder, in which one secret has a file for each
//! of its versions that is wanted there. gcloud keeps them that way, and so must whoever changes what gcloud made.

use serde_json::{Map, Value, json};

use super::container::{change_env, container};
use super::{Shape, list, object, tidy};
use crate::gcloud::error::Failure;
use crate::gcloud::grammar::{Args, split_pairs};
use crate::gcloud::invocation::Invocation;

/// Adds and drops volumes.
pub fn volumes(inv: &Invocation<'_>, document: &mut Value, shape: &Shape) -> Result<(), Failure> {
    let args = &inv.args;
    let pod = object(document, shape.pod);
    if args.on("clear-volumes") {
        pod.remove("volumes");
    }
    let removed = args.list("remove-volume").unwrap_or_default();
    if !removed.is_empty() {
        list(pod, "volumes").retain(|volume| !removed.iter().any(|name| volume["name"] == **name));
    }
    for wanted in args.list("add-volume").unwrap_or_default() {
        let volume = volume(&pairs("add-volume", wanted)?)?;
        let all = list(pod, "volumes");
        match all.iter_mut().find(|old| old["name"] == volume["name"]) {
            Some(old) => *old = volume,
            None => all.push(volume),
        }
    }
    tidy(pod, "volumes");
    Ok(())
}

/// Adds and drops mounts of one container.
pub fn mounts(args: &Args, container: &mut Map<String, Value>) -> Result<(), Failure> {
    if args.on("clear-volume-mounts") {
        container.remove("volumeMounts");
    }
    let removed = args.list("remove-volume-mount").unwrap_or_default();
    let added = args.list("add-volume-mount").unwrap_or_default();
    if removed.is_empty() && added.is_empty() {
        return Ok(());
    }
    let all = list(container, "volumeMounts");
    all.retain(|mount| !removed.iter().any(|path| mount["mountPath"] == **path));
    for wanted in added {
        let pairs = pairs("add-volume-mount", wanted)?;
        if let Some((key, _)) = pairs.iter().find(|(key, _)| !matches!(key.as_str(), "volume" | "mount-path"))
        {
            return Err(Failure::new(format!(
                "Key [{key}] not recognized for volume mount. Only keys \"volume\" and \"mount-path\" are supported"
            )));
        }
        let (Some(name), Some(path)) = (value(&pairs, "volume"), value(&pairs, "mount-path")) else {
            return Err(Failure::new("Added Volume mounts must have a `volume` and a `mount-path`."));
        };
        mount(all, path, name);
    }
    tidy(container, "volumeMounts");
    Ok(())
}

fn mount(mounts: &mut Vec<Value>, path: &str, volume: &str) {
    match mounts.iter_mut().find(|mount| mount["mountPath"] == *path) {
        Some(mount) => mount["name"] = json!(volume),
        None => mounts.push(json!({"mountPath": path, "name": volume})),
    }
}

fn pairs(flag: &str, text: &str) -> Result<Vec<(String, String)>, Failure> {
    split_pairs(text).map_err(|error| Failure::new(format!("argument --{flag}: {error}")))
}

fn value<'p>(pairs: &'p [(String, String)], key: &str) -> Option<&'p str> {
    pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// The volume that `name=scratch,type=in-memory,…` names, as the API has it.
fn volume(pairs: &[(String, String)]) -> Result<Value, Failure> {
    let given = |key: &str| value(pairs, key);
    let Some(name) = given("name") else { return Err(Failure::new("All added volumes must have a name")) };
    let Some(kind) = given("type") else { return Err(Failure::new("All added volumes must have a type")) };
    let needed = |key: &str| {
        given(key).ok_or_else(|| {
            Failure::new(format!("Volume of type [{kind}] is missing the required field `{key}`."))
        })
    };
    let read_only = || given("read-only").is_some_and(|word| word.eq_ignore_ascii_case("true"));
    let known: &[&str] = match kind {
        "in-memory" => &["size-limit"],
        "nfs" => &["location", "read-only"],
        "cloud-storage" => &["bucket", "read-only", "mount-options"],
        "secret" => &["secret", "version", "path"],
        _ => return Err(Failure::new(format!("Volume type {kind} not supported"))),
    };
    let is_known = |key: &str| matches!(key, "name" | "type") || known.contains(&key);
    if let Some((key, _)) = pairs.iter().find(|(key, _)| !is_known(key)) {
        return Err(Failure::new(format!("Volume of type [{kind}] had unexpected parameter [{key}]")));
    }
    let mut volume = json!({"name": name});
    match kind {
        "in-memory" => {
            volume["emptyDir"] = json!({"medium": "Memory"});
            if let Some(limit) = given("size-limit") {
                volume["emptyDir"]["sizeLimit"] = json!(limit);
            }
        }
        "nfs" => {
            let Some((server, path)) = needed("location")?.split_once(":/") else {
                return Err(Failure::new("NFS volume location must be in the form `SERVER:/PATH`."));
            };
            volume["nfs"] = json!({"server": server, "path": format!("/{path}"), "readOnly": read_only()});
        }
        "cloud-storage" => {
            let mut attributes = json!({"bucketName": needed("bucket")?});
            if let Some(options) = given("mount-options") {
                attributes["mountOptions"] = json!(options.replace(';', ","));
            }
            volume["csi"] = json!({
                "driver": "gcsfuse.run.googleapis.com", "readOnly": read_only(), "volumeAttributes": attributes,
            });
        }
        _ => {
            let item = json!({"key": needed("version")?, "path": needed("path")?});
            volume["secret"] = json!({"secretName": needed("secret")?, "items": [item]});
        }
    }
    Ok(volume)
}

/// Changes the secrets of one container: variables, and files.
pub fn secrets(args: &Args, document: &mut Value, shape: &Shape, at: usize) -> Result<(), Failure> {
    let pairs = args.pairs("set-secrets").or_else(|| args.pairs("update-secrets")).unwrap_or_default();
    let remove = args.list("remove-secrets").unwrap_or_default();
    let clear = args.has_any(&["set-secrets", "clear-secrets"]);
    if !clear && remove.is_empty() && pairs.is_empty() {
        return Ok(());
    }
    let (mut variables, mut files) = (Vec::new(), Vec::new());
    for (name, reference) in pairs {
        let (secret, version) = reference.rsplit_once(':').ok_or_else(|| {
            Failure::new(format!(
                "No secret version specified for {name}. Use {name}:latest to reference the latest version."
            ))
        })?;
        match name.starts_with('/') {
            true => files.push(SecretFile::new(name, secret, version)?),
            false => {
                let from = json!({"valueFrom": {"secretKeyRef": {"key": version, "name": secret}}});
                variables.push((name.clone(), from));
            }
        }
    }
    let container = container(document, shape, at);
    change_env(container, |variable| variable.get("valueFrom").is_some(), clear, remove, variables);
    secret_files(document, shape, at, clear, remove, &files)
}

/// A secret's version as a file.
struct SecretFile<'a> {
    folder: &'a str,
    file: &'a str,
    secret: &'a str,
    version: &'a str,
}

impl<'a> SecretFile<'a> {
    fn new(path: &'a str, secret: &'a str, version: &'a str) -> Result<Self, Failure> {
        match path.rsplit_once('/') {
            Some((folder, file)) if !folder.is_empty() && !file.is_empty() => {
                Ok(Self { folder, file, secret, version })
            }
            _ => Err(Failure::new(format!(
                "Invalid secret mount path [{path}]: it must name a file in a folder, such as /secrets/name."
            ))),
        }
    }
}

fn secret_files(
    document: &mut Value,
    shape: &Shape,
    at: usize,
    clear: bool,
    remove: &[String],
    files: &[SecretFile<'_>],
) -> Result<(), Failure> {
    let pod = object(document, shape.pod);
    let mut volumes = std::mem::take(list(pod, "volumes"));
    let container = container(document, shape, at);
    let mounts = list(container, "volumeMounts");
    let secret_of = |volumes: &[Value], name: &Value| {
        volumes.iter().position(|volume| volume["name"] == *name && volume.get("secret").is_some())
    };
    mounts.retain(|mount| !(clear && secret_of(&volumes, &mount["name"]).is_some()));
    for path in remove.iter().filter(|path| path.starts_with('/')) {
        drop_file(mounts, &mut volumes, path);
    }
    for wanted in files {
        let mounted = mounts.iter().find(|mount| mount["mountPath"] == *wanted.folder);
        let place = mounted.map(|mount| secret_of(&volumes, &mount["name"]));
        match place {
            Some(Some(place)) => put_file(&mut volumes[place]["secret"], wanted)?,
            Some(None) => {
                return Err(Failure::new(format!(
                    "Cannot update mount [{}] because its mounted volume is of a different source type.",
                    wanted.folder
                )));
            }
            None => {
                let name = unique_name(wanted.secret, &volumes);
                mount(mounts, wanted.folder, &name);
                let item = json!({"key": wanted.version, "path": wanted.file});
                volumes.push(json!({"name": name, "secret": {"secretName": wanted.secret, "items": [item]}}));
            }
        }
    }
    tidy(container, "volumeMounts");
    drop_unmounted(document, shape, volumes);
    Ok(())
}

/// Takes one file out of its folder; the folder goes with its last file.
fn drop_file(mounts: &mut Vec<Value>, volumes: &mut [Value], path: &str) {
    let Some((folder, file)) = path.rsplit_once('/') else { return };
    let Some(at) = mounts.iter().position(|mount| mount["mountPath"] == *folder) else { return };
    let volume = volumes.iter_mut().find(|volume| volume["name"] == mounts[at]["name"]);
    let Some(items) = volume.and_then(|volume| volume.pointer_mut("/secret/items")?.as_array_mut()) else {
        return;
    };
    items.retain(|item| item["path"] != *file);
    if items.is_empty() {
        mounts.remove(at);
    }
}

/// Puts a file into a folder in which a secret is already. A folder has one secret.
fn put_file(source: &mut Value, wanted: &SecretFile<'_>) -> Result<(), Failure> {
    let item = json!({"key": wanted.version, "path": wanted.file});
    let same = source["secretName"] == *wanted.secret;
    let items = list(object(source, &[]), "items");
    if !same && items.iter().any(|item| item["path"] != *wanted.file) {
        return Err(Failure::new(format!(
            "Multiple secrets are specified for directory [{}]. Cloud Run only supports one secret per directory",
            wanted.folder
        )));
    }
    match items.iter_mut().find(|item| item["path"] == *wanted.file) {
        Some(old) => *old = item,
        None => items.push(item),
    }
    source["secretName"] = json!(wanted.secret);
    Ok(())
}

/// Volumes with secrets that no container mounts any more are nobody's.
fn drop_unmounted(document: &mut Value, shape: &Shape, mut volumes: Vec<Value>) {
    let pod = object(document, shape.pod);
    let containers = pod.get("containers").and_then(Value::as_array).into_iter().flatten();
    let mounts = containers.filter_map(|container| container["volumeMounts"].as_array()).flatten();
    let mounted: Vec<Value> = mounts.map(|mount| mount["name"].clone()).collect();
    volumes.retain(|volume| volume.get("secret").is_none() || mounted.contains(&volume["name"]));
    *list(pod, "volumes") = volumes;
    tidy(pod, "volumes");
}

/// `SECRET-abc-def`, in gcloud's manner.
fn unique_name(secret: &str, volumes: &[Value]) -> String {
    loop {
        let syllable = || {
            let letter = |of: &[u8]| fastrand::choice(of).map_or('a', |letter| char::from(*letter));
            let (vowels, others) = (b"aeiou", b"bcdfghjklmnpqrstvwxyz");
            format!("{}{}{}", letter(others), letter(vowels), letter(others))
        };
        let name = format!("{secret}-{}-{}", syllable(), syllable());
        if !volumes.iter().any(|volume| volume["name"] == name) {
            return name;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::SERVICE;
    use super::*;

    fn file<'a>(path: &'a str, secret: &'a str, version: &'a str) -> SecretFile<'a> {
        SecretFile::new(path, secret, version).unwrap()
    }

    fn document() -> Value {
        json!({"spec": {"template": {"spec": {"containers": [{"image": "i"}]}}}})
    }

    fn change(
        document: &mut Value,
        clear: bool,
        remove: &[&str],
        files: &[SecretFile<'_>],
    ) -> Result<(), Failure> {
        let remove: Vec<String> = remove.iter().map(|path| (*path).to_owned()).collect();
        secret_files(document, &SERVICE, 0, clear, &remove, files)
    }

    fn items(document: &Value) -> Value {
        document["spec"]["template"]["spec"]["volumes"][0]["secret"].clone()
    }

    #[test]
    fn one_volume_a_folder() {
        let mut it = document();
        change(&mut it, false, &[], &[file("/etc/s/a", "one", "1"), file("/etc/s/b", "one", "latest")])
            .unwrap();
        let expected = json!({
            "secretName": "one",
            "items": [{"key": "1", "path": "a"}, {"key": "latest", "path": "b"}],
        });
        assert_eq!(items(&it), expected);
        let pod = &it["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["volumeMounts"][0]["mountPath"], "/etc/s");
        assert_eq!(pod["containers"][0]["volumeMounts"][0]["name"], pod["volumes"][0]["name"]);
        // Another secret in the same folder has no place beside the first.
        assert!(change(&mut it, false, &[], &[file("/etc/s/c", "two", "1")]).is_err());
    }

    #[test]
    fn the_last_file_takes_its_folder_along() {
        let mut it = document();
        change(&mut it, false, &[], &[file("/etc/s/a", "one", "1"), file("/etc/s/b", "one", "2")]).unwrap();
        change(&mut it, false, &["/etc/s/a"], &[]).unwrap();
        assert_eq!(items(&it)["items"], json!([{"key": "2", "path": "b"}]));
        change(&mut it, false, &["/etc/s/b"], &[]).unwrap();
        assert_eq!(it, document());
        change(&mut it, false, &[], &[file("/etc/s/a", "one", "1")]).unwrap();
        change(&mut it, true, &[], &[]).unwrap();
        assert_eq!(it, document());
    }

    #[test]
    fn kinds_of_volumes() {
        let made = |text: &str| volume(&pairs("add-volume", text).unwrap());
        assert_eq!(
            made("name=a,type=in-memory,size-limit=1Mi").unwrap(),
            json!({"name": "a", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})
        );
        assert_eq!(
            made("name=a,type=nfs,location=1.2.3.4:/x").unwrap(),
            json!({"name": "a", "nfs": {"server": "1.2.3.4", "path": "/x", "readOnly": false}})
        );
        for wrong in ["type=in-memory", "name=a", "name=a,type=tape", "name=a,type=in-memory,bucket=b"] {
            assert!(made(wrong).is_err(), "{wrong}");
        }
    }
}
