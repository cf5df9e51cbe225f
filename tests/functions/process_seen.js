// What a Node.js process is, for tests/integration/test_ahead.py.

const fs = require('node:fs');
const read = (path) => fs.readFileSync(path, 'utf8');
const status = Object.fromEntries(read('/proc/self/status').split('\n').map((line) => line.split(':\t')));
const kept = ['Name', 'Umask', 'Uid', 'Gid', 'Groups', 'NoNewPrivs', 'Seccomp', 'SigBlk', 'SigIgn', 'SigCgt',
  'CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb', 'Threads', 'PPid'];
// Without the devices: libuv keeps one in reserve, and OpenSSL one open, from their first use on.
const targets = (folder) => fs.readdirSync(folder).map((name) => {
  try { return fs.readlinkSync(`${folder}/${name}`).replace(/\d+/g, 'N'); } catch { return ''; }
}).sort().filter((target) => !/^\/dev\/(null|urandom)$/.test(target));
let found;
try { found = require('only-in-a-layer'); } catch (error) { found = error.code; }
say({
  env: Object.entries(process.env).sort(),
  argv: process.argv, execArgv: process.execArgv, title: process.title, execPath: process.execPath,
  command: read('/proc/self/cmdline'),
  status: kept.map((name) => [name, status[name]]),
  ids: [process.pid, process.ppid, process.getuid(), process.getgid()],
  descriptors: targets('/proc/self/fd'),
  limits: read('/proc/self/limits'), oom: read('/proc/self/oom_score_adj'),
  cwd: [process.cwd(), fs.readlinkSync('/proc/self/cwd')],
  mounts: read('/proc/self/mountinfo').trim().split('\n').map((line) => line.split(' ').slice(4, 6)).sort(),
  folders: ['/', '/opt', '/tmp', '/home', '/var', '/var/task'].map((folder) => fs.readdirSync(folder).sort()),
  heap: require('node:v8').getHeapStatistics().heap_size_limit,
  zone: [new Date(0).getTimezoneOffset(), Intl.DateTimeFormat().resolvedOptions().timeZone,
    new Date(0).toString(), Intl.DateTimeFormat().resolvedOptions().locale],
  modules: Object.keys(require.cache).sort(), paths: require('node:module').globalPaths,
  globals: Object.getOwnPropertyNames(globalThis).sort(),
  listeners: process.eventNames().map((name) => [String(name), process.listenerCount(name)]),
  child: require('node:child_process').execFileSync('/usr/bin/env', { encoding: 'utf8' }).split('\n').sort(),
  main: [require.main?.filename, module.parent?.filename, new Error('x').stack.split('\n').length],
  source_maps: process.sourceMapsEnabled, stack: Error.stackTraceLimit,
  found,
});
exports.handler = async () => 1;
