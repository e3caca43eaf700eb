package trust

import (
	_ "aead.dev/minisign" // for statement.go
)
