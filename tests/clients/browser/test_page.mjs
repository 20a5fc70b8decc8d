// Both pages in a real browser, against the real gateway. One process, one set of servers, one Chromium.
// Run: ./dev test clients

import "./answers.mjs";
import "./sessions.mjs";
import "./use.mjs";
import "./performance.mjs";
