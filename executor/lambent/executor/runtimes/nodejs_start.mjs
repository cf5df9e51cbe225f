// Starts AWS's unmodified runtime client, which lies beside this file as index.mjs. Two forms of it exist: up to
// version 3 it exports `run`, from version 4 it runs when it is imported.
//
// Where its native addon could not be built, the same three calls are made by native.cjs. How a process waits for its
// function is in ahead.cjs.

import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const here = import.meta.dirname ?? new URL('.', import.meta.url).pathname.replace(/\/$/, '');
const addon = existsSync(`${here}/rapid-client.node`) ? './rapid-client.node' : './native.cjs';

if (addon !== './rapid-client.node') {
  const Module = require('node:module');
  const load = Module._load;
  Module._load = function (request, ...rest) {
    if (request !== './rapid-client.node') return load.call(this, request, ...rest);
    Module._load = load; // asked for once, before any code of the function's
    return require(addon);
  };
}

function hasLayers() {
  return (process.env.NODE_PATH ?? '').split(':').some((folder) => folder && existsSync(folder));
}

function useLayers({ places, resolveNow }) {
  const { register, registerHooks } = require('node:module');
  if (!places().length) return;
  if (registerHooks) registerHooks({ resolve: resolveNow });
  else register('./layers.mjs', import.meta.url);
}

if (process.env._LAMBENT_FUNCTION) {
  const ahead = require('./ahead.cjs');
  await ahead.prepare(() => require(addon));
  const layers = await import('./layers.mjs');
  const become = () => {
    ahead.become();
    if (hasLayers()) useLayers(layers);
  };
  const { version } = JSON.parse(readFileSync(`${here}/client/package.json`, 'utf8'));
  if (parseInt(version, 10) >= 4) ahead.whenAsked(become);
  const client = await import('./index.mjs');
  if (client.run) {
    become();
    await client.run(process.env.LAMBDA_TASK_ROOT, process.env._HANDLER);
  }
} else {
  if (hasLayers()) useLayers(await import('./layers.mjs'));
  const client = await import('./index.mjs');
  if (client.run) await client.run(process.env.LAMBDA_TASK_ROOT, process.env._HANDLER);
}
