package server

// SortByDistance is sortByDistance, which needs whole WAN pools to be seen
// otherwise.
var SortByDistance = sortByDistance

// Encoded is how many encoded answers are kept and how large they are.
func Encoded(e *Endpoints) (n, bytes int) {
	e.encoded.mu.Lock()
	defer e.encoded.mu.Unlock()
	return len(e.encoded.entries), e.encoded.bytes
}
