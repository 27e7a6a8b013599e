// Package install is the one part of berth that changes a TELEPORT_HOME
// (~/.tsh): it puts a new session there, all of it or nothing.
//
// The promise: whoever reads the home, at any instant and also after kill -9
// or a power cut, finds the old session or the new one, never a mixture. All
// files of a session are in one folder, keys/PROXY. Login and Certs build the
// complete new folder beside it, everything synced, and exchange the two in
// one step of the file system. Where a system has no such step (Windows, some
// network file systems) the files are placed one by one, each by a rename;
// what is killed in the middle of that, Recover finishes. So callers run
// Recover when they start, before they believe what a home holds; Login and
// Certs do so themselves.
//
// What belongs to others stays: files of other users of the same proxy, other
// proxies, the hosts others know, and the folders config, azure and bin. What
// tsh writes at the same moment is carried over; tsh's own lock on a key is
// respected.
//
// # How a renewal is composed
//
// A session is renewed while it is still valid, so that there is no gap:
//
//  1. NewStaging makes a private home in the real one.
//  2. tsh login --proxy=… --user=… --add-keys-to-agent=no with TELEPORT_HOME
//     set to it. The real home is not touched: a login that fails or is
//     cancelled changes nothing. Choices that tsh keeps in the profile, such
//     as --mfa-mode, must be given again: the staged profile is a new one.
//  3. tsh login --request-id=… there, for each access request that is active
//     in the old session and still approved: a new login has none.
//  4. tsh login LEAF there, if the old profile had selected a leaf cluster:
//     a new login selects the root.
//  5. Login installs the staged session.
//  6. Staging.Close removes the staged home, secrets included; it is called
//     whatever happened before.
//
// A first login is the same without 3 and 4. When access requests are assumed
// or dropped by a reissue for the same keys, Certs installs the certificates.
package install
