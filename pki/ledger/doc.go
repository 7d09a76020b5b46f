// Package ledger is the replicated part of the PKI: the running CAs with their
// sealed private keys, the members that hold a certificate of them, and the
// inventory of what was issued.
//
// It has the shape of every state store: Open loads it from its buckets, Apply
// executes one agreed command on a copy of what the command touches, and Freeze
// ends the batch with an immutable View for readers and the Changes to write.
//
// Certificates and keys are bytes here. The package must not know
// cryptography, clocks, chance or the network: every member has to come to the
// same state from the same commands, so times arrive in the commands. It owns
// no goroutine. A Ledger has one caller at a time; a View has any number.
package ledger
