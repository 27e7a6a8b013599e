// Package simcluster is a Teleport cluster in one process, on loopback: a
// stand-in to test against and to try berth with.
//
// It promises to behave as a real cluster does wherever a client can tell the
// difference: one TLS port that routes by ALPN and SNI, an auth service on the
// api module's own generated servers, certs with Teleport's identity
// attributes, databases that speak enough real wire protocol for psql, mysql
// and redis-cli, leaf clusters, connection upgrades, and logins that leave in
// a TELEPORT_HOME what tsh leaves there. And it can fail on command: refuse,
// drop, stall, crawl, restart, expire, or have a clock that is wrong.
//
// What it does not do is protect anything: its keys live as long as the
// process and its users' passwords are in the Config.
package simcluster
