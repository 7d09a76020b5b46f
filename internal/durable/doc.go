// Package durable writes files that are still there after a power cut: data
// is synced before it is named, and the name is synced before the call
// returns. It also holds the lock that keeps a second process out of a
// directory.
//
// It must not know what the files mean, and owns no goroutine.
package durable
