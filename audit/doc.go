// Package audit writes down who asked a member for what, and how that was decided,
// so that nobody can change it later without being noticed.
//
// Each record is a line of JSON with the hash of the line before it (a chain), and
// the newest hash is given to the cluster to remember every minute (an anchor).
// Verifier reads the lines and says what was changed, taken out or cut off. A Log
// takes records without waiting, encodes and writes them in a goroutine of its own,
// and anchors them in another; both end with Close. Keys are told, values and
// secrets never: a Record has no place for them.
//
// The package must not know what a request or a member is: package api says what is
// worth a record, package daemon where records go and who remembers anchors.
package audit
