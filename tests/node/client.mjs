// Drives one episode of a robot, from its server's reflected schema alone, and prints what it saw as JSON.
//
//   node tests/node/client.mjs ADDRESS TASK SEED [AUTHORITY.pem CLIENT.pem CLIENT.key]
//
// Packages are looked for beside this file, or in $NODE_PREFIX (make setup puts them into .venv/node).
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { listServices, reflectClient } from './reflection.mjs';

const SERVICE = 'embodied.v1.RobotService';
const PROTOCOL = 2;
const CHUNK = 2;
const WAY = 50; // actions from one end of a range to the other
const require = createRequire(process.env.NODE_PREFIX ? `${process.env.NODE_PREFIX}/` : import.meta.url);
const libraries = { grpc: require('@grpc/grpc-js'), loader: require('@grpc/proto-loader') };

/** One control stream: a request, its reply, then the next, and heartbeats for as long as it is open. */
class Control {
  constructor(client, watchdogS) {
    this.stream = client.Control();
    this.sequence = 0;
    this.waiting = null;
    this.stream.on('data', (reply) => this.waiting.resolve(reply));
    this.stream.on('error', (error) => this.waiting?.reject(error));
    this.beating = setInterval(() => this.stream.write({ heartbeat: {} }), (watchdogS * 1000) / 5);
  }

  ask(request) {
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
      this.sequence += 1;
      this.stream.write({ sequence: this.sequence, ...request });
    }).then((reply) => {
      if (Number(reply.sequence) !== this.sequence) throw new Error(`reply ${reply.sequence} to ${this.sequence}`);
      return reply;
    });
  }

  close() {
    clearInterval(this.beating);
    this.waiting = null;
    return new Promise((resolve) => this.stream.on('status', resolve).end());
  }
}

/** Return a unary method's answer. */
function call(client, method, request) {
  return new Promise((resolve, reject) => {
    client[method](request, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

/** Return the next CHUNK poses on each field's way from its lowest to its highest: float32, little-endian. */
function chunk(fields, done) {
  const parts = Array.from({ length: CHUNK }, (_, i) => Math.min((done + i + 1) / WAY, 1));
  const numbers = parts.flatMap((part) => fields.map(({ low, high }) => low + (high - low) * part));
  const data = Buffer.alloc(4 * numbers.length);
  numbers.forEach((number, i) => data.writeFloatLE(number, 4 * i));
  return { poses: { dtype: 'DTYPE_FLOAT32', shape: [CHUNK, fields.length], data } };
}

/** Return what was seen, in JSON: the state as numbers, each frame as the hash of its pixels. */
function seen(reply, observation) {
  const { data, shape } = observation.state;
  const state = Array.from({ length: shape[0] }, (_, i) => data.readFloatLE(4 * i));
  const hash = (frame) => createHash('sha256').update(frame.raw.data).digest('hex');
  const frames = Object.fromEntries(reply.frames.map((frame) => [frame.camera, hash(frame)]));
  return { state, frames, instruction: observation.instruction };
}

async function episode(client, spec, task, seed) {
  const control = new Control(client, spec.watchdogS);
  const opened = await control.ask({ open: { protocol: PROTOCOL, client: 'node' } });
  if (opened.error) throw new Error(opened.error.message);
  const steps = [];
  let done = 0;
  let { observation, ...rest } = await control.ask({ reset: { seed, task } });
  steps.push(seen(rest, observation));
  for (let over = false; !over; ) {
    const reply = await control.ask({ step: { actions: chunk(spec.action, done), frames: true } });
    if (reply.error) throw new Error(reply.error.message);
    const { success, terminated, truncated, executed } = reply.step;
    steps.push({ ...seen(reply, reply.step.observation), success, executed });
    done += executed;
    over = terminated || truncated;
  }
  const holder = (await call(client, 'Status', {})).holder;
  const pressed = await call(client, 'EmergencyStop', { client: 'node' });
  const refused = (await control.ask({ reset: { seed, task } })).error.code;
  const released = await call(client, 'ReleaseEmergencyStop', { client: 'node' });
  const again = seen(rest, (await control.ask({ reset: { seed, task } })).observation);
  const ended = await control.close();
  return { steps, holder, stopped: [pressed.stopped, released.stopped], refused, again, ended: ended.code };
}

const [address, task, seed, ...pem] = process.argv.slice(2);
const credentials = pem.length
  ? libraries.grpc.credentials.createSsl(readFileSync(pem[0]), readFileSync(pem[2]), readFileSync(pem[1]))
  : libraries.grpc.credentials.createInsecure();
const services = await listServices(libraries, address, credentials);
const client = await reflectClient(libraries, address, credentials, SERVICE);
const { protocol, spec } = await call(client, 'Describe', {});
console.log(JSON.stringify({ services, protocol, robot: spec.name, ...(await episode(client, spec, task, seed)) }));
client.close();
