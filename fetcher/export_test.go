package fetcher

// FileName is fileName.
func FileName(label string) string { return fileName(label) }
