// A second implementation of the WAN's cryptography, written from docs/wan-protocol.md and the Noise
// specification with node's crypto module alone. It drives our implementation (bin/unit.secure_peer) and compares
// byte for byte: records across changes of key, tokens, and handshakes in which either side is ours.
import {spawn} from "node:child_process";
import crypto from "node:crypto";
import path from "node:path";
import readline from "node:readline";

// ---- primitives ---------------------------------------------------------------------------------------

const SUITES = {
  1: {cipher: "aes-256-gcm", noise: "AESGCM", big: true},
  2: {cipher: "chacha20-poly1305", noise: "ChaChaPoly", big: false},
};

const concat = (...parts) => Buffer.concat(parts.map((part) => typeof part === "string" ? Buffer.from(part) : part));
const sha256 = (...parts) => crypto.createHash("sha256").update(concat(...parts)).digest();
const hmac = (key, ...parts) => crypto.createHmac("sha256", key).update(concat(...parts)).digest();

function nonce(suite, counter) {
  const bytes = Buffer.alloc(12);
  if (SUITES[suite].big) bytes.writeBigUInt64BE(counter, 4);
  else bytes.writeBigUInt64LE(counter, 4);
  return bytes;
}

function encrypt(suite, key, counter, ad, plain) {
  const cipher = crypto.createCipheriv(SUITES[suite].cipher, key, nonce(suite, counter), {authTagLength: 16});
  cipher.setAAD(ad, {plaintextLength: plain.length});
  return concat(cipher.update(plain), cipher.final(), cipher.getAuthTag());
}

function decrypt(suite, key, counter, ad, sealed) {
  const size = sealed.length - 16;
  const cipher = crypto.createDecipheriv(SUITES[suite].cipher, key, nonce(suite, counter), {authTagLength: 16});
  cipher.setAAD(ad, {plaintextLength: size});
  cipher.setAuthTag(sealed.subarray(size));
  return concat(cipher.update(sealed.subarray(0, size)), cipher.final());
}

const PRIVATE_PREFIX = Buffer.from("302e020100300506032b656e04220420", "hex");
const PUBLIC_PREFIX = Buffer.from("302a300506032b656e032100", "hex");
const privateKey = (raw) => crypto.createPrivateKey({key: concat(PRIVATE_PREFIX, raw), format: "der", type: "pkcs8"});
const publicKey = (raw) => crypto.createPublicKey({key: concat(PUBLIC_PREFIX, raw), format: "der", type: "spki"});
const agree = (mine, theirs) => crypto.diffieHellman({privateKey: privateKey(mine), publicKey: publicKey(theirs)});

function keyPair() {
  const secret = crypto.randomBytes(32);
  const open = crypto.createPublicKey(privateKey(secret)).export({format: "der", type: "spki"});
  return {private: secret, public: open.subarray(PUBLIC_PREFIX.length)};
}

// ---- Noise, chapter 5 of its specification --------------------------------------------------------------

class Symmetric {
  constructor(suite, withPsk) {
    const name = Buffer.from(`Noise_NK${withPsk ? "psk0" : ""}_25519_${SUITES[suite].noise}_SHA256`);
    this.suite = suite;
    this.h = name.length <= 32 ? concat(name, Buffer.alloc(32 - name.length)) : sha256(name);
    this.ck = this.h;
    this.k = null;
    this.n = 0n;
  }

  hkdf(input, count) {
    const temporary = hmac(this.ck, input);
    const keys = [];
    for (let i = 1; i <= count; i++) {
      keys.push(hmac(temporary, i > 1 ? keys[i - 2] : "", Buffer.from([i])));
    }
    return keys;
  }

  mixHash(bytes) {
    this.h = sha256(this.h, bytes);
  }

  mixKey(input) {
    [this.ck, this.k] = this.hkdf(input, 2);
    this.n = 0n;
  }

  mixKeyAndHash(input) {
    const [ck, hash, k] = this.hkdf(input, 3);
    this.ck = ck;
    this.mixHash(hash);
    this.k = k;
    this.n = 0n;
  }

  encryptAndHash(plain) {
    const sealed = encrypt(this.suite, this.k, this.n++, this.h, plain);
    this.mixHash(sealed);
    return sealed;
  }

  decryptAndHash(sealed) {
    const plain = decrypt(this.suite, this.k, this.n++, this.h, sealed);
    this.mixHash(sealed);
    return plain;
  }

  split() {
    return this.hkdf(Buffer.alloc(0), 2);
  }
}

function beginNoise(suite, psk, prologue, serverPublic) {
  const noise = new Symmetric(suite, psk !== null);
  noise.mixHash(prologue);
  noise.mixHash(serverPublic);
  if (psk) noise.mixKeyAndHash(psk);
  return noise;
}

function mixEphemeral(noise, psk, ephemeral) {
  noise.mixHash(ephemeral);
  if (psk) noise.mixKey(ephemeral);
}

// ---- the WAN's formats -----------------------------------------------------------------------------------

const PSK = "twinport psk v1";
const MAC1 = "twinport mac1 v1";

function u(bits, value) {
  const bytes = Buffer.alloc(bits / 8);
  bits === 64 ? bytes.writeBigUInt64LE(BigInt(value)) : bytes.writeUIntLE(Number(value), 0, bits / 8);
  return bytes;
}

function mintToken(ring, expiry, serverPublic, identity) {
  const secret = crypto.randomBytes(32);
  const head = concat(Buffer.from([ring.id, 0, 0, 0]), u(64, expiry), crypto.randomBytes(16));
  const plain = concat(u(64, identity.account), u(32, identity.flags), u(32, 0), secret, identity.userData);
  const key = hmac(ring.key, "twinport token v1", head.subarray(12));
  return {token: concat(head, encrypt(1, key, 0n, concat(head, sha256(serverPublic)), plain)), secret};
}

function openToken(ring, serverPublic, token) {
  const head = token.subarray(0, 28);
  const key = hmac(ring.key, "twinport token v1", head.subarray(12));
  const plain = decrypt(1, key, 0n, concat(head, sha256(serverPublic)), token.subarray(28));
  return {
    keyId: token[0], zeros: token.subarray(1, 4), expiry: token.readBigUInt64LE(4), secret: plain.subarray(16, 48),
    account: plain.readBigUInt64LE(0), flags: plain.readUInt32LE(8), zero: plain.readUInt32LE(12),
    userData: plain.subarray(48),
  };
}

class Client {
  constructor(suite, serverPublic, token, secret) {
    this.psk = token ? hmac(secret, PSK) : null;
    this.ephemeral = keyPair();
    const prologue = concat("TPW1", Buffer.from([suite, token ? 1 : 0, 0, 0]), token ?? "");
    this.noise = beginNoise(suite, this.psk, prologue, serverPublic);
    mixEphemeral(this.noise, this.psk, this.ephemeral.public);
    this.noise.mixKey(agree(this.ephemeral.private, serverPublic));
    this.hello = concat(prologue, this.ephemeral.public, this.noise.encryptAndHash(Buffer.alloc(0)));
    if (token) this.hello = concat(this.hello, hmac(hmac(secret, MAC1), this.hello).subarray(0, 16));
  }

  readReply(reply) {
    const theirs = reply.subarray(1, 33);
    mixEphemeral(this.noise, this.psk, theirs);
    this.noise.mixKey(agree(this.ephemeral.private, theirs));
    const payload = this.noise.decryptAndHash(reply.subarray(33));
    const [send, receive] = this.noise.split();
    return {status: reply[0], payload, send, receive};
  }
}

function serve(hello, server, ring, payload) {
  const suite = hello[4];
  const at = hello[5] === 1 ? 148 : 8;
  let psk = null;
  if (hello[5] === 1) {
    const {secret} = openToken(ring, server.public, hello.subarray(8, 148));
    psk = hmac(secret, PSK);
    const mac = hmac(hmac(secret, MAC1), hello.subarray(0, 196)).subarray(0, 16);
    same(hello.subarray(196), mac, "mac1");
  }
  const theirs = hello.subarray(at, at + 32);
  const noise = beginNoise(suite, psk, hello.subarray(0, at), server.public);
  mixEphemeral(noise, psk, theirs);
  noise.mixKey(agree(server.private, theirs));
  same(noise.decryptAndHash(hello.subarray(at + 32, at + 48)), Buffer.alloc(0), "payload of message 1");
  const ephemeral = keyPair();
  mixEphemeral(noise, psk, ephemeral.public);
  noise.mixKey(agree(ephemeral.private, theirs));
  const reply = concat(Buffer.from([0]), ephemeral.public, noise.encryptAndHash(payload));
  const [receive, send] = noise.split();
  return {reply, send, receive};
}

// One direction of a session, to seal or to open records.
class Direction {
  constructor(suite, key, interval, counter = 0n) {
    Object.assign(this, {suite, key, interval, counter});
  }

  next() {
    if (this.counter > 0n && this.counter % this.interval === 0n) {
      this.key = encrypt(this.suite, this.key, 2n ** 64n - 1n, Buffer.alloc(0), Buffer.alloc(32)).subarray(0, 32);
    }
    return this.counter++;
  }

  seal(plain) {
    const sealed = encrypt(this.suite, (this.next(), this.key), this.counter - 1n, Buffer.alloc(0), plain);
    return concat(u(16, sealed.length), sealed);
  }

  open(record) {
    return decrypt(this.suite, (this.next(), this.key), this.counter - 1n, Buffer.alloc(0), record.subarray(2));
  }
}

// ---- ours ---------------------------------------------------------------------------------------------------

const program = path.join(process.env.TWINPORT_BIN, "unit.secure_peer" + process.env.TWINPORT_EXE);
const command = [process.env.TWINPORT_EMULATOR, program].filter(Boolean);
const ours = spawn(command[0], command.slice(1), {stdio: ["pipe", "pipe", "inherit"]});
const lines = readline.createInterface({input: ours.stdout})[Symbol.asyncIterator]();

async function ask(...words) {
  ours.stdin.write(words.map((word) => Buffer.isBuffer(word) ? word.toString("hex") || "-" : `${word}`).join(" ") + "\n");
  const {value, done} = await lines.next();
  if (done) throw new Error(`unit.secure_peer ended at: ${words[0]}`);
  return value.trim().split(" ");
}

const hex = (text) => Buffer.from(text, "hex");

let compared = 0;
let failed = 0;

function same(a, b, what) {
  const [left, right] = [a, b].map((value) => Buffer.isBuffer(value) ? value.toString("hex") : `${value}`);
  compared++;
  if (left !== right) {
    failed++;
    console.log(`${what}:\n  ${left}\n  ${right}`);
  }
}

// ---- comparisons ----------------------------------------------------------------------------------------------

async function compareRecords(suite, interval, from, sizes) {
  const what = `suite ${suite}, interval ${interval}, from ${from}`;
  const key = crypto.randomBytes(32);
  const sealing = new Direction(suite, key, interval, from);
  const opening = new Direction(suite, key, interval, from);
  await ask("interval", interval);
  await ask("sealing", suite, key);
  await ask("opening", suite, key);
  await ask("counter", from);
  for (const size of sizes) {
    const plain = crypto.randomBytes(size);
    const sealed = sealing.seal(plain);
    const [theirs] = await ask("seal", plain);
    same(hex(theirs), sealed, `sealed, ${what}, ${size} bytes`);
    same(opening.open(hex(theirs)), plain, `opened here, ${what}, ${size} bytes`);
    same(hex((await ask("open", sealed))[0]), plain, `opened there, ${what}, ${size} bytes`);
  }
  await ask("interval", 0);
}

async function compareTokens(ring, server, identity) {
  const expiry = 2n ** 40n + 12345n;
  const [token, secret] = await ask(
    "mint", ring.id, ring.key, expiry, server.public, identity.account, identity.flags, identity.userData);
  const opened = openToken(ring, server.public, hex(token));
  same(opened.keyId, ring.id, "key id");
  same(opened.zeros, Buffer.alloc(3), "zeros");
  same(opened.expiry, expiry, "expiry");
  same(opened.secret, hex(secret), "S");
  same(opened.account, identity.account, "account");
  same(opened.flags, identity.flags, "flags");
  same(opened.zero, 0, "zero");
  same(opened.userData, identity.userData, "user data");
}

const TERMS = [258, 772, 84281096, 2n ** 63n + 5n];
const PAYLOAD = concat(u(16, TERMS[0]), u(16, TERMS[1]), u(32, TERMS[2]), u(64, TERMS[3]));

// Node's client, our server.
async function compareServer(suite, mode, ring, server, identity) {
  const what = `our server, suite ${suite}, mode ${mode}`;
  const minted = mode === 1 ? mintToken(ring, 1000, server.public, identity) : {};
  const client = new Client(suite, server.public, minted.token, minted.secret);
  same(client.hello.length, mode === 1 ? 212 : 56, what);
  const [reply, send, receive, account, flags, userData] =
    await ask("serve", mode, server.private, ring.id, ring.key, 999, client.hello, ...TERMS);
  const read = client.readReply(hex(reply));
  same(read.status, 0, what);
  same(read.payload, PAYLOAD, what);
  same(read.send, hex(receive), what);
  same(read.receive, hex(send), what);
  if (mode === 1) {
    same(`${account} ${flags} ${userData}`,
      `${identity.account} ${identity.flags} ${identity.userData.toString("hex")}`, what);
  }
}

// Our client, node's server.
async function compareClient(suite, mode, ring, server, identity) {
  const what = `our client, suite ${suite}, mode ${mode}`;
  const minted = mode === 1 ? mintToken(ring, 1000, server.public, identity) : {};
  const none = Buffer.alloc(0);
  const [hello] = await ask("hello", suite, server.public, minted.token ?? none, minted.secret ?? none);
  const served = serve(hex(hello), server, ring, PAYLOAD);
  const [minor, heartbeat, payload, session, send, receive] = await ask("reply", served.reply);
  same([minor, heartbeat, payload, session], TERMS, what);
  same(hex(send), served.receive, what);
  same(hex(receive), served.send, what);
}

for (const suite of [1, 2]) {
  await compareRecords(suite, 2n ** 20n, 0n, [1, 16, 63, 64, 65, 1000, 16384]);
  await compareRecords(suite, 4n, 0n, [...Array(22).keys()].map((i) => 10 + i));
  await compareRecords(suite, 2n ** 20n, 2n ** 20n - 2n, [40, 40, 40, 40, 40]);
  await compareRecords(suite, 2n ** 20n, 2n ** 32n + 7n, [40]); // all bytes of the nonce
  await compareRecords(suite, 2n ** 20n, 0x0123456789abcdefn, [40]);
  await compareRecords(suite, 2n ** 20n, 2n ** 63n - 1n, [40]);
}
for (let round = 0; round < 3; round++) {
  const server = keyPair();
  const ring = {id: crypto.randomInt(256), key: crypto.randomBytes(32)};
  const identity = {
    account: crypto.randomBytes(8).readBigUInt64LE(), flags: crypto.randomBytes(4).readUInt32LE(),
    userData: crypto.randomBytes(48),
  };
  await compareTokens(ring, server, identity);
  for (const suite of [1, 2]) {
    for (const mode of [0, 1]) {
      await compareServer(suite, mode, ring, server, identity);
      await compareClient(suite, mode, ring, server, identity);
    }
  }
}
ours.stdin.end();
const [code] = await new Promise((resolve) => ours.on("exit", (...end) => resolve(end)));
same(code, 0, "exit code");
console.log(`${compared} comparisons, ${failed} failed`);
process.exit(failed === 0 && compared > 100 ? 0 : 1);
