import { accessSync, constants, existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from './workspace.mjs';

/**
 * Environment for the tools: never interactive, no telemetry, caches inside the repository when
 * the home directory cannot be written.
 *
 * @param {NodeJS.ProcessEnv} [base]
 * @returns {NodeJS.ProcessEnv}
 */
export function toolEnvironment(base = process.env) {
  /** @type {NodeJS.ProcessEnv} */
  const env = { ...base, CI: '1', TURBO_TELEMETRY_DISABLED: '1', DO_NOT_TRACK: '1' };
  for (const name of Object.keys(env)) {
    // What the outer npm says about this package is not meant for the tools below it.
    if (/^npm_(package_|lifecycle_|command$|config_(local_prefix|json|loglevel)$)/i.test(name)) {
      delete env[name];
    }
  }
  return homeIsWritable() ? env : { ...env, ...localCaches() };
}

function localCaches() {
  const at = (/** @type {string} */ name) => join(ROOT, '.cache', name);
  return {
    npm_config_cache: at('npm'),
    XDG_CACHE_HOME: at('xdg-cache'),
    XDG_CONFIG_HOME: at('xdg-config'),
    XDG_DATA_HOME: at('xdg-data'),
    XDG_STATE_HOME: at('xdg-state'),
  };
}

function homeIsWritable() {
  try {
    const home = homedir();
    const npmCache = join(home, '.npm');
    accessSync(home, constants.W_OK);
    if (existsSync(npmCache)) accessSync(npmCache, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
