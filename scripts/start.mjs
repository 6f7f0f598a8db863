// `npm start [-- FILE] [-- --json ...]`: install, build, run the main job with the caller's arguments.
import { requireNode } from './lib/check-node.mjs';

requireNode();
import('./lib/start.mjs');
