//! The documents on disk: one SQLite database in WAL mode.
//!
//! `synchronous=FULL` makes every commit wait for `fsync` of the log. A commit rewrites the rows that changed and the
//! revision, in one SQLite transaction, so that what is read after a crash is always the state at some revision.

use crate::{Event, KeyValue, OpenError, Revision, View};
use rusqlite::{Connection, OptionalExtension, params};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The version of the tables below. A database with a higher one was written by a newer program and is not touched.
pub const SCHEMA_VERSION: i64 = 1;

const DATABASE: &str = "state.db";

/// How long to wait for another process that reads the database (an administrator's `sqlite3`), never for ourselves.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// One document that changed, as it is to be written.
pub(crate) struct Row {
    pub(crate) event: Event,
    /// The document as JSON text; `None` deletes.
    pub(crate) text: Option<String>,
    pub(crate) created: Revision,
}

impl Row {
    /// Length of what is written.
    pub(crate) fn bytes(&self) -> usize {
        self.event.key.len() + self.text.as_ref().map_or(0, String::len)
    }
}

/// Where commits become durable. A trait, so that tests can make it fail at the worst moment.
pub(crate) trait Disk: Send {
    /// Makes all rows and the new revision durable, or nothing of it.
    fn commit(&mut self, rows: &[Row], revision: Revision) -> Result<(), String>;
    /// After a failed commit: what is really on disk, through a fresh connection.
    fn reload(&mut self) -> Result<View, String>;
    /// The revision on disk, through a fresh connection. Cheaper than [`Disk::reload`].
    fn reopen(&mut self) -> Result<Revision, String>;
    /// Closes the files, until the next [`Disk::reopen`].
    fn close(&mut self);
}

/// The real disk.
pub(crate) struct Sqlite {
    path: PathBuf,
    /// `None` after a failure, until the next [`Disk::reopen`].
    connection: Option<Connection>,
}

impl Sqlite {
    /// Opens or creates the database in `dir` and reads all of it.
    pub(crate) fn open(dir: &Path) -> Result<(Sqlite, View), OpenError> {
        let path = dir.join(DATABASE);
        // Documents hold private keys of certificates: the file is the owner's alone. SQLite gives the log and the
        // index files next to it the same mode.
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| OpenError::Io(path.clone(), e))?;
        let connection = connect(&path).map_err(|e| OpenError::Database(path.clone(), e.to_string()))?;
        prepare_schema(&connection, &path)?;
        let view = load(&connection).map_err(|why| OpenError::Database(path.clone(), why))?;
        Ok((Sqlite { path, connection: Some(connection) }, view))
    }

    /// Reads what is committed, beside whoever writes.
    pub(crate) fn peek(dir: &Path) -> Result<View, OpenError> {
        let path = dir.join(DATABASE);
        if !path.exists() {
            return Ok(View::loaded(Vec::new(), 0));
        }
        let database = |why: String| OpenError::Database(path.clone(), why);
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY | rusqlite::OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(|e| database(e.to_string()))?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(|e| database(e.to_string()))?;
        // One transaction: revision and documents are of one moment.
        let read = connection.unchecked_transaction().map_err(|e| database(e.to_string()))?;
        load(&read).map_err(database)
    }

    fn connection(&mut self) -> Result<&mut Connection, String> {
        if self.connection.is_none() {
            self.connection = Some(connect(&self.path).map_err(|e| e.to_string())?);
        }
        self.connection.as_mut().ok_or_else(|| "no connection".to_owned())
    }

    /// Lets a test limit the size of the database, so that SQLite reports a full disk.
    #[cfg(test)]
    pub(crate) fn limit_pages(&mut self, pages: i64) {
        let connection = self.connection().expect("connected");
        connection.query_row(&format!("PRAGMA max_page_count={pages}"), [], |_| Ok(())).expect("pragma");
    }
}

impl Disk for Sqlite {
    fn commit(&mut self, rows: &[Row], revision: Revision) -> Result<(), String> {
        let done = write(self.connection()?, rows, revision);
        if let Err(e) = &done {
            // What a connection believes after an I/O error is not worth reasoning about: start from the files.
            self.connection = None;
            return Err(e.to_string());
        }
        Ok(())
    }

    fn reload(&mut self) -> Result<View, String> {
        load(self.connection()?)
    }

    fn reopen(&mut self) -> Result<Revision, String> {
        self.connection = None;
        read_revision(self.connection()?).map_err(|e| e.to_string())
    }

    fn close(&mut self) {
        self.connection = None;
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    Ok(connection)
}

fn prepare_schema(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let database = |e: rusqlite::Error| OpenError::Database(path.to_owned(), e.to_string());
    connection
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL)",
        )
        .map_err(database)?;
    let found: Option<i64> = connection
        .query_row("SELECT value FROM meta WHERE name = 'schema'", [], |row| row.get(0))
        .optional()
        .map_err(database)?;
    match found {
        Some(SCHEMA_VERSION) => Ok(()),
        Some(found) if found > SCHEMA_VERSION => {
            Err(OpenError::NewerSchema { path: path.to_owned(), found, known: SCHEMA_VERSION })
        }
        Some(found) => Err(OpenError::Database(path.to_owned(), format!("unknown schema version {found}"))),
        None => create_schema(connection).map_err(database),
    }
}

fn create_schema(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "BEGIN;
         CREATE TABLE documents (
             key TEXT PRIMARY KEY NOT NULL,
             value TEXT NOT NULL,
             created INTEGER NOT NULL,
             modified INTEGER NOT NULL
         );
         INSERT INTO meta (name, value) VALUES ('revision', 0), ('schema', {SCHEMA_VERSION});
         COMMIT;"
    ))
}

fn write(connection: &mut Connection, rows: &[Row], revision: Revision) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut put = transaction.prepare_cached(
            "INSERT INTO documents (key, value, created, modified) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (key) DO UPDATE SET value = ?2, created = ?3, modified = ?4",
        )?;
        let mut delete = transaction.prepare_cached("DELETE FROM documents WHERE key = ?1")?;
        for row in rows {
            let key = &*row.event.key;
            match &row.text {
                Some(text) => {
                    put.execute(params![key, text, row.created as i64, row.event.revision as i64])?
                }
                None => delete.execute(params![key])?,
            };
        }
        transaction
            .prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'revision'")?
            .execute(params![revision as i64])?;
    }
    transaction.commit()
}

fn read_revision(connection: &Connection) -> rusqlite::Result<Revision> {
    connection.query_row("SELECT value FROM meta WHERE name = 'revision'", [], |row| {
        row.get::<_, i64>(0).map(|revision| revision as Revision)
    })
}

fn load(connection: &Connection) -> Result<View, String> {
    let revision = read_revision(connection).map_err(|e| e.to_string())?;
    let mut statement = connection
        .prepare("SELECT key, value, created, modified FROM documents ORDER BY key")
        .map_err(|e| e.to_string())?;
    let mut rows = statement.query([]).map_err(|e| e.to_string())?;
    let mut documents = Vec::new();
    while let Some(row) = rows.next().map_err(|e| e.to_string())? {
        documents.push(document(row)?);
    }
    Ok(View::loaded(documents, revision))
}

fn document(row: &rusqlite::Row<'_>) -> Result<KeyValue, String> {
    let read = || -> rusqlite::Result<(String, String, i64, i64)> {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    };
    let (key, text, created, modified) = read().map_err(|e| e.to_string())?;
    let value = serde_json::from_str(&text).map_err(|e| format!("document {key}: {e}"))?;
    Ok(KeyValue {
        key: Arc::from(key),
        value: Arc::new(value),
        created: created as Revision,
        modified: modified as Revision,
    })
}
