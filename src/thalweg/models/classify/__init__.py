"""Models that classify images: (B, C, H, W) pixels to (B, K) logits, each as `head(features(x))`."""
