// Package e2e drives berth against real Teleport: a real single-node cluster
// on loopback, a real PostgreSQL behind it, real tsh logins, and the berth
// binary used as a person uses it.
//
// Its tests have the build tag e2e and run on Linux. They want the folder with
// teleport, tsh and tctl in BERTH_E2E_TELEPORT_BIN, and PostgreSQL with psql
// and pgbench on the machine; see "make e2e". BERTH_E2E_BERTH may name a berth
// to test; else one is built. Nothing is left behind but, when
// a test fails, the folder with all logs, whose name is printed.
//
// It promises that what berth and its simulated cluster take for granted about
// Teleport is true of the Teleport at hand: the journeys are those of a user,
// and the probes ask the real and the simulated cluster the same questions and
// compare the answers.
package e2e
