// Package window serves the berth window: a page in the user's own browser, on a
// loopback port, for as long as someone looks at it.
//
// It is a front end like the others: it speaks to the agent by agent/ipc/client alone,
// which reaches no credential, and of the agent's calls it makes those that the client
// lists for pages. Everything else a page shows is handed to it as funcs.
//
// Who gets in is decided by one gate; each of these keeps out what the others would not:
//
//   - the guard: only a program of this OS user may connect;
//   - Host must be the address itself, so that a name that leads here (DNS rebinding) is
//     refused;
//   - Origin and Sec-Fetch-Site must be those of the page itself, so that other pages,
//     those of other ports of this machine among them, are refused;
//   - a session's cookie, which a page gets once for the token of its opening link. The
//     token is in the link's fragment, which browsers send to no server. A token that is
//     presented again ends the session it made: one of the two has stolen it;
//   - for everything that changes something, the session's key in the header Berth-Key,
//     which no form and no other page can send.
//
// The server ends after a quarter of an hour in which no page was open, when the screen is
// locked, and when the window is forbidden.
//
// # Paths
//
//	GET  /, /app.js, /app.css              the page
//	POST /api/open                         {"token"} → {"key", "version"} and the cookie
//	GET  /api/key                          the same again, for a page that is loaded again
//	GET  /api/snapshot/stream              server-sent events: snapshots, "away" without an agent, "closed" at the end
//	GET  /api/info                         GetInfoResponse
//	GET  /api/resources?kind=&cluster=     ListResourcesResponse
//	GET  /api/requests?profile=&resource=  AbilitiesResponse: what may be asked for
//	GET  /api/recordings?…                 ListRecordingsResponse
//	GET  /api/tunnels/NAME/history         TunnelHistoryResponse
//	GET  /api/recordings/ID?cluster=       the page that plays a recording, sandboxed
//	GET  /api/tunnels/NAME/urls            {"urls": [{"name", "text"}], "client"}
//	GET  /api/tunnels/NAME/plot            the last hour, a column for each quantity
//	GET  /api/plots?tunnel=&tunnel=        the last hour's traffic of some tunnels, by name
//	GET  /api/clients                      TunnelClientsResponse: the programs that are connected
//	POST /api/call/NAME                    a call of berth.v1, request and answer in protobuf's JSON
//	POST /api/login                        {"proxy", "user", …} → a line {"login", "event": LoginResponse} for each step, or "error"
//	POST /api/login/LOGIN/answer           {"id", "secret"}: the answer to a prompt
//	GET  /api/…, POST /api/…               what Config's Reads and Writes have
//
// A failure is {"code", "message", "hint"} with a fitting status.
package window
