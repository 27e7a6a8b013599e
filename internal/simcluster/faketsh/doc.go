// Package faketsh stands in for tsh, Teleport's command line client, against a
// simulated cluster: the same arguments, prompts, texts and exit codes, and
// the same files left in a TELEPORT_HOME, in either layout.
//
// A test binary, or berth itself, becomes a tsh by being started under the name
// tsh, or with BERTH_FAKE_TSH=1 in its environment, if its main begins with
//
//	if faketsh.Invoked(os.Args[0], os.Environ()) {
//		os.Exit(faketsh.Main(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
//	}
//
// The package cmd/tsh beside it is nothing but that.
//
// It reads what tsh reads: TELEPORT_HOME and the other TELEPORT_ variables, and
// SSL_CERT_FILE for a private web CA. Variables of its own, which tsh does not
// have:
//
//	BERTH_FAKE_TSH_VERSION      the version to pass for; 17 and later write the
//	                            newer layout. Empty means simcluster.V16.
//	BERTH_FAKE_TSH_KEY          the kind of key a login makes: rsa, ecdsa or
//	                            ed25519. Empty means what that version makes.
//	BERTH_FAKE_TSH_SSO_TIMEOUT  how long to wait for a single sign-on; empty
//	                            means 180s, as tsh does.
package faketsh
