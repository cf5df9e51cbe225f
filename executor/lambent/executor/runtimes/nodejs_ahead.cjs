// A process that was started before its function is known waits here for it: for the variables that it would have
// been started with. What takes time and depends on no function is done before that.

'use strict';

const fs = require('node:fs');
const Module = require('node:module');
const net = require('node:net');

const NAME = '_LAMBENT_FUNCTION';
const MOST = 1 << 16; // of one message
const MODULES = ['assert', 'async_hooks', 'child_process', 'http', 'https', 'stream', 'util', 'worker_threads'];
const FIRST_READ = '_HANDLER';

// Ways that every function's start takes are taken once, so that their code is compiled.
exports.prepare = async function prepare(addon) {
  for (const name of MODULES) require(`node:${name}`);
  addon();
  await import('./layers.mjs');
  await new Promise((resolve, reject) => {
    const server = net.createServer((socket) => socket.on('data', () => socket.write('x')).on('error', () => {}));
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      const socket = net.connect({ host: '127.0.0.1', port, noDelay: true }, () => socket.write('x'));
      socket.on('error', reject).on('data', () => {
        socket.resetAndDestroy(); // leaves nothing that waits in the network
        server.close(resolve);
      });
    });
  });
  global.gc?.();
};

// The function's variables, when its code is mounted: each is told by a message, in any order.
function received(place) {
  const buffer = Buffer.alloc(MOST);
  let mounted = false;
  let env;
  while (!mounted || !env) {
    const size = fs.readSync(place, buffer);
    if (size === 0) process.exit(0); // nobody wants it any more
    const message = JSON.parse(buffer.toString('utf8', 0, size));
    if (message.error) {
      fs.writeSync(place, JSON.stringify(message));
      process.exit(0);
    }
    mounted ||= message.step === 'mounted';
    env ??= message.function?.env;
  }
  return env;
}

// Waits, and makes the process what a plain start with the function's variables would be.
exports.become = function become() {
  const place = Number(process.env[NAME]);
  fs.writeSync(place, JSON.stringify({ step: 'parked' }));
  const env = received(place);
  for (const name of Object.keys(process.env)) {
    if (!(name in env)) delete process.env[name];
  }
  for (const [name, value] of Object.entries(env)) {
    if (process.env[name] !== value) process.env[name] = value;
  }
  process.chdir('/var/task');
  delete Module._cache[__filename];
  fs.closeSync(place); // the driver takes that as: it is the function's from here on
};

// The client from version 4 on runs when it is imported; the handler is the first of the function's that it asks for.
exports.whenAsked = function whenAsked(then) {
  const env = process.env;
  process.env = new Proxy(env, {
    get(target, name) {
      if (name === FIRST_READ && process.env !== env) {
        process.env = env;
        then();
      }
      return Reflect.get(target, name);
    },
  });
};
