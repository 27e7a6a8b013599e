// Command chaos runs a real agent with thirty tunnels and real clients in bad
// weather, and keeps a ledger: every answer is compared with what is known to
// be right, and every connection that is lost is held against the fault that
// was under way. Restarts, upgrades, logins and edits of the config may lose
// none.
//
//	go run ./internal/chaos -minutes 20
//	go run ./internal/chaos -seed 7 -only proxy-reset
//
// It promises to hide nothing: a fault that this machine cannot make is in the
// table with the reason, and the seed repeats the order of the faults.
package main
