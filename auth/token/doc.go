// Package token is how users prove who they are: with passwords, of which the
// state has bcrypt's hashes, and with the tokens they get for them, which are
// random (simple) or signed (JWT).
//
// It does what needs chance, a clock and time, before the log: a password becomes
// a hash here, and a token is made here. It knows auth's names and hashes, and
// nothing of requests or members. It owns no goroutine: bcrypt runs on its
// caller's, in a bounded number at a time.
package token
